/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * stager/filter_parts.h - what the two halves of the filter share; nobody else includes it.
 *
 * filter.c has the compiled list, the nodes of directories, matching and explaining;
 * filter_parse.c reads rules, as options and files give them, and adds them to a list.
 *
 * Three kinds of list make up what holds in a directory.  The global list is the filter's.
 * A per-directory merge rule in it is a reference to a slot: each slot has a file name and,
 * directory by directory, a chain of segments, one for every merge file of that name on the
 * way down, the nearest first.  A segment belongs to the node of the directory where its file
 * lies; nodes hold their parent, so what a chain refers to is alive as long as the node is.
 * A merge file may itself declare slots; these are in force below its directory only, so the
 * numbers of slots agree along every path down, which is all that references need.
 */
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/bytes.h"
#include "common/error.h"
#include "common/macro.h"
#include "stager/filter.h"

#define FLAG(n) (1u << (n))
enum {
	F_SENDER = FLAG(STG_SENDER),
	F_RECEIVER = FLAG(STG_RECEIVER),
	F_SIDES = F_SENDER | F_RECEIVER,
	F_INCLUDE = FLAG(2),
	F_NEGATE = FLAG(3),
	F_PERISHABLE = FLAG(4),
	F_ABS = FLAG(5), /* matched against the absolute path */
	F_XATTR = FLAG(6),
	F_DIR_ONLY = FLAG(7),

	/* for parsing */
	F_CLEAR = FLAG(8),
	F_MERGE = FLAG(9),       /* the argument is a file name */
	F_DIR_MERGE = FLAG(10),  /* ... of a file in every directory */
	F_NO_PREFIX = FLAG(11),  /* the file has patterns, no rules */
	F_WORDS = FLAG(12),      /* the file is split at white space */
	F_NO_INHERIT = FLAG(13), /* the file counts in its own directory only */
	F_SELF = FLAG(14),       /* the file itself is excluded */
	F_CVS = FLAG(15),
	F_SIDED = FLAG(16), /* the rule's name says the side */

	/* from the pattern */
	F_WILD = FLAG(17),
	F_WILD2 = FLAG(18),       /* has "**" */
	F_WILD2_START = FLAG(19), /* begins with it */
	F_WILD3_END = FLAG(20),   /* ends in "***" */
	F_SUFFIX = FLAG(21),      /* is one star and a literal end */

	/* what the rules of a file take over from the rule that named the file */
	F_HANDED_DOWN = F_INCLUDE | F_PERISHABLE | F_ABS | F_XATTR,
};

/* Which part of a path a pattern is compared with. */
enum place {
	PLACE_NAME,     /* the last component */
	PLACE_WHOLE,    /* all of it */
	PLACE_TAIL,     /* the last slashes + 1 components */
	PLACE_ANYWHERE, /* all of it, or what follows any slash */
};

struct stg_rule {
	uint32_t flags;
	enum place place;
	struct bytes pattern; /* in store, without the slashes of anchor and directory */
	size_t literal_n;     /* bytes of pattern before the first wildcard or backslash */
	size_t slashes;       /* in pattern */

	/* For an anchored rule of a per-directory file: the segment, which knows where. */
	const struct segment *home;

	/* For a per-directory merge rule; pattern is the name of the file. */
	size_t slot;
	char *search_from; /* the path part that it was given with, NULL: none */

	char *text;
	char *origin;
	char store[];
};

struct rule_list {
	struct stg_rule **v; /* all, in order */
	size_t n;
	size_t cap;         /* of each array */
	size_t n_xattr;
	struct stg_rule **side[2]; /* those that count for entries, by enum stg_side */
	size_t side_n[2];
};

struct segment {
	const struct segment *inherited; /* the next in the chain */
	struct segment *owned_next;      /* the next of the same node */
	struct rule_list rules;
	bool cleared;
	/*
	 * Where the merge file lies: base is its directory relative to the root; for a file in a
	 * parent of the root, base is empty and lead is the way from there to the root ("a/b/").
	 */
	struct bytes base;
	struct bytes lead;
	char store[];
};

struct slot {
	const struct stg_rule *def; /* NULL: cleared */
	const struct segment *rules;
};

struct slots {
	struct slot *v;
	size_t n;
	size_t cap;
};

struct stg_filter {
	struct rule_list rules;
	struct slots slots; /* as declared; rules are all NULL */
	char *root[2];      /* absolute, with a trailing slash */
	char *cvs_home;
	char *cvs_value;
	struct stg_filter_input *input; /* NULL: standard input itself */
	unsigned dash_f;
	bool delete_excluded;
};

struct stg_filter_dir {
	atomic_uint refs;
	const struct stg_filter *f;
	struct stg_filter_dir *parent;
	struct slots slots;
	struct segment *owned;
	bool changed; /* while it is built: differs from the parent */
};

/* The directory whose merge files are being read. */
struct place_read {
	struct segment *seg; /* what is being filled */
	const char *abs;     /* absolute path of the file's directory, slash at the end */
	bool above_root;     /* found on the search through the parents */
};

/* Where rules come from and what they take over. */
struct parser {
	const struct stg_filter *f;
	struct rule_list *out;
	struct slots *slots;
	const struct place_read *at; /* NULL: the global list is being built */
	const char *origin;
	size_t line;      /* 0: origin is no file */
	uint32_t inherit; /* flags of the rule that named the file */
	bool old_prefixes;
	bool anchor_here; /* anchored rules start at at's directory, not at the root */
	unsigned depth;
};

/* ---- filter.c ---- */

/* Sets e and returns -ENOMEM. */
int stg_filter_no_memory(struct err *e);

void stg_filter_rule_free(struct stg_rule *r); /* NULL is fine */

static inline void stg_filter_rule_freep(struct stg_rule **r)
{
	stg_filter_rule_free(*r);
}

/* Free the rules of l; clear keeps its arrays for more, fini frees these as well. */
void stg_filter_list_clear(struct rule_list *l);
void stg_filter_list_fini(struct rule_list *l);

/* Room for one more rule.  -ENOMEM, without a message. */
int stg_filter_list_grow(struct rule_list *l) _must_check_;

/* Takes r over and adds it to the end of l; room was made by stg_filter_list_grow(). */
void stg_filter_list_push(struct rule_list *l, struct stg_rule *r, bool delete_excluded);

/* Add v to the end of s.  -ENOMEM, without a message. */
int stg_filter_slots_push(struct slots *s, struct slot v) _must_check_;

/* ---- filter_parse.c ---- */

/* What follows the last slash of path; all of it when there is none. */
struct bytes stg_filter_base_name(struct bytes path);

/*
 * Add the rules in text, the content of the file p->origin, to p->out; new per-directory
 * merge rules get their slots in p->slots.  Counts lines in p->line.  Errors as
 * stg_filter_add_file(); after one, what came before it has been added.
 */
int stg_filter_parse_text(struct parser *p, struct bytes text, struct err *e)
	_must_check_;

/*
 * Append what can be read from fd up to its end; name is for messages.  -ERR_SELECT: it cannot
 * be read or is larger than STG_FILTER_FILE_MAX.  -ENOMEM.
 */
int stg_filter_read_all(int fd, const char *name, struct buf *out, struct err *e)
	_must_check_;

/* Sets e from errno: it was not possible to do what ("open") to path.  Returns -ERR_SELECT. */
int stg_filter_select_err(struct err *e, const char *what, const char *path);
