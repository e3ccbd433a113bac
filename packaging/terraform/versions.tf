# SPDX-License-Identifier: Apache-2.0
terraform {
  # terraform_data, which is built in, came with 1.4: no provider has to be downloaded.
  required_version = ">= 1.4.0"
}
