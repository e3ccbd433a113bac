# SPDX-License-Identifier: Apache-2.0

output "result_path" {
  description = "The result file: migration_result.json tells whether the data is there, and whether the target can be used."
  value       = terraform_data.mgc_region_migration.output
}
