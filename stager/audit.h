/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * stager/audit.h - audit.log: what happened to a migration, in a chain that shows changes.
 *
 * One JSON object a line, only ever appended:
 *
 *   {"seq":1,"time_utc":"...","epoch":...,"run_id":"...","event":"...", ..., "prev":"..."}
 *
 * (without the blanks).  seq counts from 1; prev is the SHA-256 of the line before, its
 * newline included, so that "sed -n 5p audit.log | sha256sum" shows what line 6 must hold;
 * the first line has 64 zeros.  A line that a crash cut short stays: it gets its newline and
 * a record "repair" after it, whose prev is the hash of the last whole line, and whose
 * torn_bytes and torn_sha256 cover everything between the two.
 *
 * The report and this log are chained alternately: the report is saved with the hash of the
 * last line (stg_audit_last()), then phase_finished or run_finished is written with the hash
 * of the report file (report_sha256).
 */
#include <stdbool.h>
#include <stdint.h>

#include "common/bytes.h"
#include "common/error.h"
#include "common/sha256.h"

#define STG_AUDIT_FILE "audit.log"
#define STG_AUDIT_LINE_MAX (256u << 10) /* a record with its newline */

struct stg_audit; /* lives from stg_audit_open() to stg_audit_close(); any thread may write */

enum stg_audit_event {
	STG_AUDIT_RUN_STARTED,
	STG_AUDIT_PHASE_STARTED,
	STG_AUDIT_PHASE_FINISHED, /* with report_sha256 */
	STG_AUDIT_HOST_KEY,
	STG_AUDIT_HOOK,
	STG_AUDIT_DELETE, /* with count */
	STG_AUDIT_ERROR,
	STG_AUDIT_RUN_FINISHED, /* with report_sha256 */
	STG_AUDIT_VERIFY_STARTED,
	STG_AUDIT_VERIFY_FINISHED, /* with report_sha256 */
};

/* One field of a record. */
struct stg_audit_field {
	const char *key; /* our own word, no quotes needed; NULL: path and path_base64 */
	bool is_text;
	struct bytes text; /* borrowed */
	int64_t number;
};

#define STG_AUDIT_TEXT(k, s) \
	((struct stg_audit_field){ .key = (k), .is_text = true, .text = bytes_str(s) })
#define STG_AUDIT_NUMBER(k, v) \
	((struct stg_audit_field){ .key = (k), .number = (int64_t)(v) })
#define STG_AUDIT_PATH(b) ((struct stg_audit_field){ .is_text = true, .text = (b) })

struct stg_audit_opts {
	const char *run_id;
	int64_t (*real_ns)(void *arg); /* NULL: clock_real_ns() */
	void *clock_arg;
};

/*
 * Open or create the log in statefd, which is not needed afterwards.  The last lines are
 * verified and a torn one is completed by a repair record.  -EBADMSG: the chain is broken
 * there, nothing is appended to it.  Else: as openat(2).
 */
int stg_audit_open(int statefd, const struct stg_audit_opts *o, struct stg_audit **ret,
		   struct err *e) _must_check_;
void stg_audit_close(struct stg_audit *a); /* NULL is fine */

/*
 * Append a record.  Those at the ends of phases and runs, and host keys, are synced to disk
 * before this returns, with all that came before.  Another process may append meanwhile.
 */
int stg_audit_write(struct stg_audit *a, enum stg_audit_event event,
		    const struct stg_audit_field *fields, size_t n, struct err *e) _must_check_;

/* The hash of the last line, for the report's previous_sha256; zeros before the first. */
void stg_audit_last(struct stg_audit *a, char ret[SHA256_HEX_SIZE]);

struct stg_audit_check {
	uint64_t lines;        /* torn ones included */
	uint64_t repairs;      /* repair records */
	uint64_t torn_bytes;   /* at the end, without a repair record: the next run adds it */
	uint64_t broken_line;  /* the first broken one, from 1; 0: the chain is whole */
	char why[128];         /* what is wrong with it */
	char last[SHA256_HEX_SIZE]; /* hash of the last record */
};

/* Walk the whole chain.  0 with *ret filled, broken or not; -ENOENT: no log; else as read(2). */
int stg_audit_verify(int statefd, struct stg_audit_check *ret, struct err *e) _must_check_;
