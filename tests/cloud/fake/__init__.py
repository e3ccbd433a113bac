# SPDX-License-Identifier: Apache-2.0
"""The cloud that tests run against; tests/cloud/fake-cloud says how to use it."""
