/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * checks/checks.h - can SMS take this host, and if not, why?
 *
 * A check is a row of chk_table: a public name that is never used for anything else, what to
 * do when it fails, and a function that looks.  Where SMS has a name and a code for the
 * matter, they are SMS's.  A check that could not tell says so; it never counts as passed.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "checks/facts.h"
#include "checks/root.h"
#include "common/error.h"

struct chk_sys; /* checks/sys.h */

/* Limits of SMS: server migration workflow, requirements on the source (Linux). */
#define CHK_MEMORY_MIN_MIB 520
#define CHK_CPU_MIN 0.3
#define CHK_CLOCK_MAX_S 900      /* signatures older than 15 minutes are refused */
#define CHK_PORT_DEFAULT 22

enum chk_result {
	CHK_OK,
	CHK_WARN,
	CHK_ERROR,
};

/* What came of one check.  Strings are inside, or constants. */
struct chk_answer {
	const char *name;
	enum chk_result result;
	bool told;            /* false: could not tell, message says why */
	const char *sms_code; /* "SMS.6504"; "" when SMS has none, or nothing is wrong */
	char value[256];      /* what was found, "" nothing */
	char limit[128];      /* what is wanted, "" nothing in particular */
	const char *unit;     /* of value and limit, "" none */
	bool number;          /* value and limit are decimal numbers */
	char message[768];
	const char *remedy;   /* one sentence; "" when nothing is wrong */
};

/* What a caller knows that the host does not.  Zero means default or unknown. */
struct chk_opts {
	const char *root;         /* NULL: the running system */
	const char *supported;    /* the list of supported systems (checks/supported.h) */
	const char *const *only;  /* names of the checks to run, NULL-terminated; NULL: all */
	const struct chk_sys *sys; /* for tests */

	/*
	 * The Date header of an answer of the control plane and our clock when it came, epoch
	 * seconds; or why there is none.  Neither: the clock is not checked.
	 */
	int64_t server_time_s, server_time_at;
	const struct err *server_time_why;

	/* The target of a staged sync; NULL: none is known. */
	const char *target_host;
	unsigned target_port;        /* 0: 22 */
	unsigned connect_timeout_ms; /* 0: 5000 */
	uint64_t target_bytes;       /* room on the target's disks; 0: not known */
	uint64_t target_files;       /* inodes there; 0: no limit, or not known */
	bool target_begun;           /* some of the data may be there already */
	const struct err *target_space_why; /* why the room is not known */

	unsigned port; /* migration port; 0: 22 */

	/*
	 * MACs of the user's other sources, NULL-terminated: twelve hex digits in any common
	 * notation, or the SHA-256 of the lower-case colon form as 64 hex digits.
	 */
	const char *const *known_macs;
	const struct err *known_macs_why; /* not all of them are known, and why */
};

struct chk_env {
	const struct chk_root *root;
	const struct chk_facts *facts;
	const struct chk_opts *opts;
	const struct chk_sys *sys;
};

struct chk {
	const char *name;
	const char *sms_code; /* when it fails and run() names no other one */
	const char *remedy;   /* as above */
	enum chk_result unknown; /* what "could not tell" counts as on a running host */
	bool both;            /* the staged sync cannot do without it, either */
	/* Not run, and not listed, when this says so: what it needs was not given. */
	bool (*wanted)(const struct chk_opts *o);
	/* Fill the answer.  Negative and *e filled: could not tell. */
	int (*run)(const struct chk_env *env, struct chk_answer *ret, struct err *e);
};

/* All checks in the order in which they are run and shown; ends with a row without name. */
extern const struct chk chk_table[];

/* The row of that name (exact), or NULL. */
const struct chk *chk_find(const char *name);

/* The name of the table that is most like name, in any case; NULL when none is. */
const char *chk_nearest(const char *name);

/* One row, alone. */
void chk_run_row(const struct chk *c, const struct chk_env *env, struct chk_answer *ret);

struct chk_report {
	struct chk_answer *v;
	size_t n;
	bool sms_usable;   /* no check says ERROR */
	char verdict[512]; /* "SMS: unusable (OS_VERSION: SMS.6504) -> staged sync" */
};

/*
 * Collect the facts, run the checks, come to a verdict.  *ret and, unless ret_facts is NULL,
 * *ret_facts are the caller's to free.  -ERR_USAGE: an unknown name in only, or one whose
 * input is missing; else the root or the list of supported systems cannot be read at all.
 */
int chk_run(const struct chk_opts *o, struct chk_report **ret, struct chk_facts **ret_facts,
	    struct err *e) _must_check_;
void chk_report_free(struct chk_report *r); /* NULL is fine */

const char *chk_result_name(enum chk_result r); /* "OK" "WARN" "ERROR" */

/*
 * The code that SMS registers this host under ("CENTOS_7_9_64BIT"), by the list of supported
 * systems at path; for what is not on it, made the same way from id and version.
 */
int chk_os_code(const char *path, const struct chk_facts *f, char *ret, size_t size,
		struct err *e) _must_check_;
