/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * stager/explain.h - what becomes of one path in a phase, and which rule decides it.
 *
 * The answer is what scan and listing would come to (stager/scan.c, stager/listing.c), asked
 * of the rules and the source alone: the target is not looked at.
 */
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "common/bytes.h"
#include "common/error.h"
#include "stager/report.h"

struct stg_filter_dir;
struct stg_migration;
struct stg_rule;

/* A path below the source root, and what the source has there. */
struct stg_subject {
	struct bytes path; /* borrowed; relative to the root, "" is the root itself */
	mode_t mode;       /* 0: the source has none */
	bool is_dir;       /* of the source's, or as asked where it has none */
	size_t dirs_n;     /* the first dirs_n bytes of path name a directory of the source */
	size_t mount_n;    /* and mount_n ones a mount point that is not entered; 0: none */
	bool blocked;      /* what follows dirs_n is there, and is no directory */
	bool own;          /* it is, or lies below, the product's own directory */
	enum {
		STG_SCOPE_IN,
		STG_SCOPE_ABOVE, /* a directory on the way to a --path */
		STG_SCOPE_OUT,   /* not below a --path */
	} scope;
};

/* as_dir: take it for a directory where the source has none of the name. */
int stg_subject_look(const struct stg_migration *m, struct bytes path, bool as_dir,
		     struct stg_subject *ret, struct err *e) _must_check_;

/* What the rules say of one side. */
struct stg_answer {
	const struct stg_rule *rule; /* NULL: none matches */
	size_t path_n;               /* it decides for the first path_n bytes of the path */
	bool yes;                    /* hidden, or protected */
};

struct stg_explained {
	struct stg_filter_dir *dir; /* keeps the rules alive */
	struct stg_answer hidden;   /* by the sender's side */
	struct stg_answer kept;     /* on the target, should it alone have the path */
};

int stg_explain(const struct stg_migration *m, enum stg_phase_kind kind,
		const struct stg_subject *s, struct stg_explained *ret, struct err *e)
	_must_check_;
void stg_explained_fini(struct stg_explained *x);

extern const char *const stg_phase_words[STG_PHASE_KINDS]; /* "full", ... */
