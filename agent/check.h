/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * agent/check.h - the command "check": can SMS take this host?
 */
#include "common/error.h"

#define AGT_CHECKS_NAME "precheck_source_checks.json"

struct agt_context;
struct agt_options;
struct chk_report;
struct cJSON;

/*
 * Run the checks as the options say, show them, write AGT_CHECKS_NAME.  0: usable; 40: not;
 * or a negative code.
 */
int agt_check_run(const struct agt_context *ctx, struct err *e);

/* {"verdict", "sms_usable", "checks"}; the caller's to free, NULL when out of memory. */
struct cJSON *agt_check_json(const struct chk_report *r);

/*
 * The list of supported systems: --supported-os, else the installed one.  *ret is the
 * caller's to free().
 */
int agt_check_supported(const struct agt_options *o, char **ret, struct err *e) _must_check_;
