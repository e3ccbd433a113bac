/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * agent/json.h - JSON of strangers read without trust, JSON of ours made without fuss.
 *
 * A getter takes a path of member names with dots between them ("error.code") and a value to
 * answer with when there is none: missing, null, an object where a number is wanted, "12" for
 * 12, a number too large - none of it is an error, because the services' own documents and
 * samples disagree about types.  v may be NULL everywhere.
 *
 * A maker cannot fail on the spot: what could not be added for want of memory marks its
 * object, and agt_json_print() fails for it.  So a body is written down line by line.
 */
#include <stdbool.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/bytes.h"
#include "common/error.h"

#define AGT_JSON_NUMBER_MAX 9007199254740991 /* 2^53 - 1: what a double holds exactly */

struct cJSON;

/*
 * Parse text, which is not kept.  *ret is the caller's; NULL for text that is empty or blank.
 * -ERR_PROTOCOL: it is no JSON, or there is something behind the value.
 */
int agt_json_parse(struct bytes text, struct cJSON **ret, struct err *e) _must_check_;
void agt_json_free(struct cJSON *v); /* NULL is fine */

static inline void agt_json_freep(struct cJSON **v)
{
	agt_json_free(*v);
}

/* The value at path, borrowed from v; NULL when it is missing or null. "" is v itself. */
const struct cJSON *agt_json_at(const struct cJSON *v, const char *path);
bool agt_json_is_object(const struct cJSON *v);

/* A string, borrowed from v; other unless the value is a string. */
const char *agt_json_str(const struct cJSON *v, const char *path, const char *other);
/* The same as a copy of its own, a number or a bool written out; cut to fit.  Returns out. */
const char *agt_json_text(const struct cJSON *v, const char *path, char *out, size_t size);
/* A whole number within +-AGT_JSON_NUMBER_MAX, also as string; fractions are cut off. */
int64_t agt_json_int(const struct cJSON *v, const char *path, int64_t other);
/* Any finite number, also as string. */
double agt_json_double(const struct cJSON *v, const char *path, double other);
/* true false, also as string in any case, or 1 and 0. */
bool agt_json_bool(const struct cJSON *v, const char *path, bool other);

/*
 * The members of an object or the elements of an array, in their order; nothing for all else:
 *	for (i = agt_json_first(v, "tasks"); i; i = agt_json_next(i))
 */
const struct cJSON *agt_json_first(const struct cJSON *v, const char *path);
const struct cJSON *agt_json_next(const struct cJSON *item);
size_t agt_json_count(const struct cJSON *v, const char *path);
const char *agt_json_name(const struct cJSON *member); /* of a member; "" for an element */

/*
 * JSON inside a string, as error_json of a task has it; an object or array that stands there
 * itself is taken, too.  *ret is the caller's, NULL when there is nothing of the kind.
 */
int agt_json_embedded(const struct cJSON *v, const char *path, struct cJSON **ret,
		      struct err *e) _must_check_;

/* ---- making ---- */

struct cJSON *agt_json_object(void); /* NULL when out of memory: all below take it */
struct cJSON *agt_json_array(void);
struct cJSON *agt_json_copy(const struct cJSON *v); /* deep; NULL for NULL */

/*
 * Set member name of the object o, replacing one of that name.  text NULL writes null; text
 * that is not UTF-8 is written as text_escape() shows it.
 */
void agt_json_set_str(struct cJSON *o, const char *name, const char *text);
void agt_json_set_int(struct cJSON *o, const char *name, int64_t v);
void agt_json_set_double(struct cJSON *o, const char *name, double v);
void agt_json_set_bool(struct cJSON *o, const char *name, bool v);
void agt_json_set_null(struct cJSON *o, const char *name);
/* Takes v and returns it, so that it can be filled afterwards; NULL marks o. */
struct cJSON *agt_json_set(struct cJSON *o, const char *name, struct cJSON *v);
struct cJSON *agt_json_set_object(struct cJSON *o, const char *name); /* a new, empty one */
struct cJSON *agt_json_set_array(struct cJSON *o, const char *name);
void agt_json_remove(struct cJSON *o, const char *name);

/* Append to the array a. */
struct cJSON *agt_json_add(struct cJSON *a, struct cJSON *v);
struct cJSON *agt_json_add_object(struct cJSON *a);
void agt_json_add_str(struct cJSON *a, const char *text);

/*
 * Overwrite with asterisks, at any depth of v, the strings of members whose names look like
 * secrets (password, token, private_key and the like): for what is shown or kept.
 */
void agt_json_blot(struct cJSON *v);

/* Remove the members of that name at any depth of v. */
void agt_json_prune(struct cJSON *v, const char *name);

/* Append v as text; pretty: for people, with a newline at the end.  -ENOMEM. */
int agt_json_print(const struct cJSON *v, bool pretty, struct buf *out, struct err *e)
	_must_check_;
