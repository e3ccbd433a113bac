/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * common/self.h - where this program is installed: programs and data find each other relative
 * to their own place, so that any prefix will do.
 */
#include "common/error.h"

/* PREFIX of PREFIX/bin/PROGRAM or PREFIX/sbin/PROGRAM; *ret is the caller's to free(). */
int self_prefix(char **ret, struct err *e) _must_check_;
