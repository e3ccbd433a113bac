/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * stager/filter.h - rsync's filter rules: which entries are sent, which are kept from deletion.
 *
 * A struct stg_filter is an ordered list of rules; the first one that matches decides, and no
 * match means sent (sender side) and at risk of deletion (receiver side).  It is built by one
 * thread with the add functions; from the first stg_filter_enter() on it must not change, and
 * then any number of threads may use it.
 *
 * Per-directory merge files make the list differ from directory to directory.  What holds
 * inside one directory is a struct stg_filter_dir: an immutable, counted node that children
 * inherit and threads may share.  Merge files are read on the source only; a directory that
 * exists on the target alone is entered as one that has none (dirfd -1).
 *
 * Where rsync 3.5.0 and its manual differ, or either would surprise, this is what holds:
 *  - a merge file with modifier 'w' takes "- foo" as one rule (the manual; 3.5.0 refuses it);
 *  - an anchored rule of a per-directory file takes the directory's name literally, though it
 *    may have wildcards in it (3.5.0 takes them as wildcards);
 *  - "merge" inside a per-directory file: a name without a slash is looked up in the source
 *    root, one with a slash from that directory on, and rules anchored in there are anchored
 *    at the source root (3.5.0, all three);
 *  - a merge file hands its 'x' modifier down to its rules (the manual; 3.5.0 drops it);
 *  - a per-directory file that is there but cannot be read is an error (3.5.0 ignores it);
 *    what is no regular file is ignored by both;
 *  - under --delete-excluded, what a per-directory file adds by "merge" or by ":e" stays
 *    two-sided unless it names a side (3.5.0, which forgets even a side that is named);
 *  - every "-C" adds the CVS list anew (3.5.0 repeats the first one, be it "+C");
 *  - "-C" and "+C" take no argument (3.5.0 drops it silently), and no rule has a NUL byte.
 */
#include <stdbool.h>
#include <stddef.h>

#include "common/buf.h"
#include "common/bytes.h"
#include "common/error.h"
#include "common/macro.h"

#define STG_FILTER_FILE_MAX (16u << 20) /* bytes in one merge file */
#define STG_FILTER_DEPTH_MAX 32         /* merge files that name merge files */
#define STG_FILTER_SLOTS_MAX 256        /* per-directory file names in force at one place */

struct stg_filter;     /* lives from stg_filter_new() to stg_filter_free() */
struct stg_filter_dir; /* what holds inside one directory; must not outlive its filter */
struct stg_rule;       /* lives as long as the filter or the node that it came from */

enum stg_side {
	STG_SENDER,   /* excluded: hidden, not sent */
	STG_RECEIVER, /* excluded: protected, not deleted */
};

/* An empty filter: everything is sent, everything is at risk.  -ENOMEM. */
int stg_filter_new(struct stg_filter **ret, struct err *e) _must_check_;
void stg_filter_free(struct stg_filter *f); /* NULL is fine */

static inline void stg_filter_freep(struct stg_filter **f)
{
	stg_filter_free(*f);
}

/*
 * The absolute path of the root on one side, "/" until it is set.  Rules with the '/' modifier
 * are matched below it; the sender's also says which parents are searched for merge files
 * that are given with a path ("dir-merge /.rsync-filter").  -ERR_USAGE: not absolute.
 */
int stg_filter_set_root(struct stg_filter *f, enum stg_side side, const char *path,
			struct err *e) _must_check_;

/*
 * What a "-C" rule adds to the standard list: rules of home/.cvsignore (a missing file is
 * fine) and the words of value (as in $CVSIGNORE).  NULL: none.  Before the rule is added.
 */
int stg_filter_set_cvs(struct stg_filter *f, const char *home, const char *value,
		       struct err *e) _must_check_;

/*
 * Standard input, for filters that are built from the same options: it is read once, and
 * each of them gets its text.  Begin with zeroes; the owner frees text.
 */
struct stg_filter_input {
	struct buf text;
	bool read;
	const struct stg_filter *taken_by; /* who has it already, and finds the end of it now */
};

/* Without one, standard input itself is read.  in must live until the last rule is added. */
void stg_filter_set_input(struct stg_filter *f, struct stg_filter_input *in);

/* Rules that name no side become sender-only; may be called before or after adding them. */
void stg_filter_set_delete_excluded(struct stg_filter *f, bool on);

/*
 * Add to the end of the list what one option says.  origin (copied) names the option or
 * config key in messages and explanations; rules of files are known by "file:line".
 * -ERR_USAGE: syntax.  -ERR_SELECT: a file that is missing or cannot be read.  -ENOMEM.
 * After an error the filter is only good for stg_filter_free().
 */
int stg_filter_add_rule(struct stg_filter *f, const char *rule, const char *origin,
			struct err *e) _must_check_;
int stg_filter_add_exclude(struct stg_filter *f, const char *pattern, const char *origin,
			   struct err *e) _must_check_;
int stg_filter_add_include(struct stg_filter *f, const char *pattern, const char *origin,
			   struct err *e) _must_check_;

/* --exclude-from, --include-from: one pattern a line; path "-" is standard input. */
int stg_filter_add_file(struct stg_filter *f, const char *path, bool include,
			const char *origin, struct err *e) _must_check_;

/* -F: the first call adds ": /.rsync-filter", the second "- .rsync-filter", later ones none. */
int stg_filter_add_dash_f(struct stg_filter *f, const char *origin, struct err *e)
	_must_check_;

/* The rules in order, per-directory merge rules included; i counts from 0. */
size_t stg_filter_count(const struct stg_filter *f);
const struct stg_rule *stg_filter_rule(const struct stg_filter *f, size_t i);

/*
 * The node for the directory at path (relative to the root, "" is the root itself, no leading
 * or trailing slash), open as dirfd; parent is the node of the directory above, NULL for the
 * root.  Reads the per-directory merge files in it; dirfd -1: it has none.  Without any such
 * rule in force, or without such a file here, the parent's node is shared.  *ret is the
 * caller's to unref.
 * -ERR_USAGE, -ERR_SELECT as above, -ENOMEM.
 */
int stg_filter_enter(const struct stg_filter *f, struct stg_filter_dir *parent, int dirfd,
		     struct bytes path, struct stg_filter_dir **ret, struct err *e)
	_must_check_;
struct stg_filter_dir *stg_filter_dir_ref(struct stg_filter_dir *d); /* NULL is fine */
void stg_filter_dir_unref(struct stg_filter_dir *d);                 /* NULL is fine */

static inline void stg_filter_dir_unrefp(struct stg_filter_dir **d)
{
	stg_filter_dir_unref(*d);
}

/*
 * The first rule that matches the entry at path (relative to the root, no leading slash),
 * which lies directly in directory d, or NULL: no rule does.  is_dir: the entry itself is a
 * directory, not a link to one.  in_removed_dir: the directory it lies in is being removed,
 * so that perishable rules do not count.
 */
const struct stg_rule *stg_filter_match(const struct stg_filter_dir *d, struct bytes path,
					bool is_dir, enum stg_side side, bool in_removed_dir);

/* The same as answers.  A directory that is not sent is not entered either. */
bool stg_filter_sends(const struct stg_filter_dir *d, struct bytes path, bool is_dir);
bool stg_filter_protects(const struct stg_filter_dir *d, struct bytes path, bool is_dir,
			 bool in_removed_dir);

/*
 * Could a rule tell what lies below the directory at path from the same below another path?
 * True when that cannot be ruled out.
 */
bool stg_filter_is_local(const struct stg_filter *f, struct bytes path);

/* The first rule with modifier 'x' that matches the name of an xattr, or NULL. */
const struct stg_rule *stg_filter_xattr(const struct stg_filter_dir *d, struct bytes name,
					enum stg_side side);

/* True when rules for xattrs are in force: then they replace the caller's default choice. */
bool stg_filter_has_xattr_rules(const struct stg_filter_dir *d);

/*
 * May a rule protect anything below the directory at path, when that directory (or one above
 * it, below d's) is being removed?  False is certain, so the whole tree may go unseen; true
 * is a maybe.  d: as for stg_filter_match() of path.  Whether path itself is protected is
 * not answered here.
 */
bool stg_filter_may_protect_below(const struct stg_filter_dir *d, struct bytes path);

/*
 * What happens to path, seen from the root down, as a scan would see it: the first directory
 * on the way that a rule excludes decides for all below it.
 */
struct stg_filter_verdict {
	struct stg_filter_dir *dir;  /* keeps rule alive; release with stg_filter_verdict_fini() */
	const struct stg_rule *rule; /* NULL: none matches path */
	size_t path_n;               /* the rule matched the first path_n bytes of path */
	bool excluded;               /* hidden / protected */
};

/* rootfd: the source root.  Errors as stg_filter_enter(), or as open(2) on the way. */
int stg_filter_explain(const struct stg_filter *f, int rootfd, struct bytes path, bool is_dir,
		       enum stg_side side, struct stg_filter_verdict *ret, struct err *e)
	_must_check_;
void stg_filter_verdict_fini(struct stg_filter_verdict *v);

bool stg_rule_excludes(const struct stg_rule *r);      /* hide / protect, not show / risk */
const char *stg_rule_text(const struct stg_rule *r);   /* as it was written */
const char *stg_rule_origin(const struct stg_rule *r); /* the option, or "file:line" */

/* For those who look at rules rather than at files. */
bool stg_rule_on_side(const struct stg_filter *f, const struct stg_rule *r, enum stg_side side);
bool stg_rule_dir_only(const struct stg_rule *r);
bool stg_rule_negated(const struct stg_rule *r);
bool stg_rule_perishable(const struct stg_rule *r);
bool stg_rule_is_dir_merge(const struct stg_rule *r); /* stands for per-directory files */
bool stg_rule_is_xattr(const struct stg_rule *r);

/* The pattern without the slashes at its begin and end; borrowed from the rule. */
struct bytes stg_rule_pattern(const struct stg_rule *r);

enum stg_rule_place {
	STG_PLACE_NAME,  /* compared with the last component, in any directory */
	STG_PLACE_ROOT,  /* with the whole path from the root */
	STG_PLACE_TAIL,  /* with the end of the path */
	STG_PLACE_OTHER, /* any part of it, or the absolute path, or below a per-directory file */
};

enum stg_rule_place stg_rule_place(const struct stg_rule *r);
bool stg_rule_wild(const struct stg_rule *r); /* not literal */

/* Would this rule match path, were it the only one?  A per-directory merge rule never does. */
bool stg_rule_matches(const struct stg_filter *f, const struct stg_rule *r, struct bytes path,
		      bool is_dir, enum stg_side side);
