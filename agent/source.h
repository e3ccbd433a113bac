/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * agent/source.h - this host as SMS wants to know it, and the id it is known by.
 */
#include <stddef.h>

#include "common/error.h"
#include "common/sha256.h"

#define AGT_SOURCE_ID_SIZE 256 /* with the NUL; on disk, with the newline */

struct agt_options;
struct cJSON;
struct chk_report;

/*
 * Run the local checks of this host, all or those of the list, which ends with NULL; *ret is
 * freed by chk_report_free().
 */
int agt_source_run_checks(const struct agt_options *o, const char *const *only,
			  struct chk_report **ret, struct err *e) _must_check_;

/*
 * The body of POST /v3/sources for this host; id: the one it is registered under, NULL: it is
 * new.  *ret is the caller's.
 */
int agt_source_body(const struct agt_options *o, const char *id, struct cJSON **ret,
		    struct err *e) _must_check_;

/*
 * What tells one body from another, by all that does not change from day to day: sizes of
 * disks count, how full they are does not, nor does the id.
 */
int agt_source_digest(const struct cJSON *body, char ret[SHA256_HEX_SIZE], struct err *e)
	_must_check_;

/* The id that this host was registered under, kept in the state directory; "" for none. */
int agt_source_binding(const char *state_dir, char *ret, size_t size, struct err *e)
	_must_check_;
/* Keep it; "" forgets it. */
int agt_source_bind(const char *state_dir, const char *id, struct err *e) _must_check_;
