/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/json.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/text.h"

/*
 * Something could not be added to this value.  cJSON keeps the kind of a value in the low eight
 * bits of its type and two flags above them, and looks at nothing else.
 */
#define BROKEN (1 << 20)

/* ---- parsing ---- */

static bool is_blank(struct bytes text)
{
	for (size_t i = 0; i < text.n; i++)
		if (text.p[i] && !strchr(" \t\r\n", text.p[i]))
			return false;
	return !memchr(text.p ? text.p : (const void *)"", '\0', text.n);
}

int agt_json_parse(struct bytes text, struct cJSON **ret, struct err *e)
{
	const char *begin = (const char *)text.p, *end = NULL;
	cJSON *v;

	if (is_blank(text)) {
		*ret = NULL;
		return 0;
	}
	v = cJSON_ParseWithLengthOpts(begin, text.n, &end, 0);
	if (!v)
		return err_set(e, -ERR_PROTOCOL, "no JSON: byte %zu of %zu cannot be understood",
			       end ? (size_t)(end - begin) + 1 : 1, text.n);
	if (!is_blank(bytes_of(end, text.n - (size_t)(end - begin)))) {
		cJSON_Delete(v);
		return err_set(e, -ERR_PROTOCOL, "no JSON: more text stands behind byte %zu",
			       (size_t)(end - begin));
	}
	*ret = v;
	return 0;
}

void agt_json_free(struct cJSON *v)
{
	cJSON_Delete(v);
}

/* ---- getting ---- */

static const cJSON *member(const cJSON *object, const char *name, size_t n)
{
	if (!cJSON_IsObject(object))
		return NULL;
	for (const cJSON *v = object->child; v; v = v->next)
		if (v->string && !strncmp(v->string, name, n) && !v->string[n])
			return v;
	return NULL;
}

const struct cJSON *agt_json_at(const struct cJSON *v, const char *path)
{
	while (v && *path) {
		size_t n = strcspn(path, ".");

		v = member(v, path, n);
		path += n;
		path += *path == '.';
	}
	return cJSON_IsNull(v) ? NULL : v;
}

bool agt_json_is_object(const struct cJSON *v)
{
	return cJSON_IsObject(v);
}

const char *agt_json_str(const struct cJSON *v, const char *path, const char *other)
{
	v = agt_json_at(v, path);
	return cJSON_IsString(v) ? v->valuestring : other;
}

/* Cut where a character begins, so that the rest is UTF-8 if the whole was. */
static void copy_cut(char *out, size_t size, const char *text)
{
	size_t n = strlen(text);

	if (n >= size) {
		n = size - 1;
		while (n && ((unsigned char)text[n] & 0xc0) == 0x80)
			n--;
	}
	memcpy(out, text, n);
	out[n] = '\0';
}

const char *agt_json_text(const struct cJSON *v, const char *path, char *out, size_t size)
{
	v = agt_json_at(v, path);
	if (cJSON_IsString(v) || cJSON_IsRaw(v))
		copy_cut(out, size, v->valuestring);
	else if (cJSON_IsBool(v))
		copy_cut(out, size, cJSON_IsTrue(v) ? "true" : "false");
	else if (cJSON_IsNumber(v) && isfinite(v->valuedouble))
		snprintf(out, size, "%.15g", v->valuedouble);
	else
		*out = '\0';
	return out;
}

double agt_json_double(const struct cJSON *v, const char *path, double other)
{
	double d;
	char *end;

	v = agt_json_at(v, path);
	if (cJSON_IsNumber(v)) {
		d = v->valuedouble;
	} else if (cJSON_IsString(v) || cJSON_IsRaw(v)) {
		/* strtod() takes more than JSON does ("0x10", "inf"): digits are to come first. */
		const char *s = v->valuestring + strspn(v->valuestring, " ");
		const char *digits = s + (*s == '-' || *s == '+');

		if (*digits < '0' || *digits > '9' || strcspn(s, "xX") != strlen(s))
			return other;
		d = strtod(s, &end);
		if (end[strspn(end, " ")])
			return other;
	} else {
		return other;
	}
	return isfinite(d) ? d : other;
}

int64_t agt_json_int(const struct cJSON *v, const char *path, int64_t other)
{
	double d = agt_json_double(v, path, NAN);

	if (isnan(d) || fabs(d) > (double)AGT_JSON_NUMBER_MAX)
		return other;
	return (int64_t)d;
}

bool agt_json_bool(const struct cJSON *v, const char *path, bool other)
{
	v = agt_json_at(v, path);
	if (cJSON_IsBool(v))
		return cJSON_IsTrue(v);
	if (cJSON_IsString(v) && !strcasecmp(v->valuestring, "true"))
		return true;
	if (cJSON_IsString(v) && !strcasecmp(v->valuestring, "false"))
		return false;
	switch (agt_json_int(v, "", -1)) {
	case 0:
		return false;
	case 1:
		return true;
	default:
		return other;
	}
}

const struct cJSON *agt_json_first(const struct cJSON *v, const char *path)
{
	v = agt_json_at(v, path);
	return cJSON_IsArray(v) || cJSON_IsObject(v) ? v->child : NULL;
}

const struct cJSON *agt_json_next(const struct cJSON *item)
{
	return item ? item->next : NULL;
}

size_t agt_json_count(const struct cJSON *v, const char *path)
{
	size_t n = 0;

	for (const cJSON *i = agt_json_first(v, path); i; i = i->next)
		n++;
	return n;
}

const char *agt_json_name(const struct cJSON *item)
{
	return item && item->string ? item->string : "";
}

int agt_json_embedded(const struct cJSON *v, const char *path, struct cJSON **ret,
		      struct err *e)
{
	v = agt_json_at(v, path);
	*ret = NULL;
	if (cJSON_IsObject(v) || cJSON_IsArray(v)) {
		*ret = cJSON_Duplicate(v, true);
		return *ret ? 0 : err_sysn(e, -ENOMEM, "copy %s", path);
	}
	if (!cJSON_IsString(v))
		return 0;
	return agt_json_parse(bytes_str(v->valuestring), ret, e);
}

/* ---- making ---- */

struct cJSON *agt_json_object(void)
{
	return cJSON_CreateObject();
}

struct cJSON *agt_json_array(void)
{
	return cJSON_CreateArray();
}

struct cJSON *agt_json_copy(const struct cJSON *v)
{
	return v ? cJSON_Duplicate(v, true) : NULL;
}

static void mark(cJSON *v)
{
	if (v)
		v->type |= BROKEN;
}

struct cJSON *agt_json_set(struct cJSON *o, const char *name, struct cJSON *v)
{
	if (!o || !v) {
		mark(o);
		cJSON_Delete(v);
		return NULL;
	}
	agt_json_remove(o, name);
	if (!cJSON_AddItemToObject(o, name, v)) {
		mark(o);
		cJSON_Delete(v);
		return NULL;
	}
	return v;
}

void agt_json_remove(struct cJSON *o, const char *name)
{
	if (o)
		cJSON_DeleteItemFromObjectCaseSensitive(o, name);
}

static cJSON *new_string(const char *text)
{
	_cleanup_(buf_fini) struct buf shown = BUF_INIT;
	const char *s;

	if (!text)
		return cJSON_CreateNull();
	if (text_is_utf8(bytes_str(text)))
		return cJSON_CreateString(text);
	if (text_escape(&shown, bytes_str(text)) < 0)
		return NULL;
	s = buf_cstr(&shown);
	return s ? cJSON_CreateString(s) : NULL;
}

void agt_json_set_str(struct cJSON *o, const char *name, const char *text)
{
	agt_json_set(o, name, new_string(text));
}

void agt_json_set_int(struct cJSON *o, const char *name, int64_t v)
{
	char text[32];

	/* cJSON writes large numbers as doubles, 1e+15 and all, which not everybody takes. */
	snprintf(text, sizeof(text), "%lld", (long long)v);
	agt_json_set(o, name, cJSON_CreateRaw(text));
}

void agt_json_set_double(struct cJSON *o, const char *name, double v)
{
	agt_json_set(o, name, isfinite(v) ? cJSON_CreateNumber(v) : cJSON_CreateNull());
}

void agt_json_set_bool(struct cJSON *o, const char *name, bool v)
{
	agt_json_set(o, name, cJSON_CreateBool(v));
}

void agt_json_set_null(struct cJSON *o, const char *name)
{
	agt_json_set(o, name, cJSON_CreateNull());
}

struct cJSON *agt_json_set_object(struct cJSON *o, const char *name)
{
	return agt_json_set(o, name, agt_json_object());
}

struct cJSON *agt_json_set_array(struct cJSON *o, const char *name)
{
	return agt_json_set(o, name, agt_json_array());
}

struct cJSON *agt_json_add(struct cJSON *a, struct cJSON *v)
{
	if (!a || !v || !cJSON_AddItemToArray(a, v)) {
		mark(a);
		cJSON_Delete(v);
		return NULL;
	}
	return v;
}

struct cJSON *agt_json_add_object(struct cJSON *a)
{
	return agt_json_add(a, agt_json_object());
}

void agt_json_add_str(struct cJSON *a, const char *text)
{
	agt_json_add(a, new_string(text));
}

static bool is_secret_name(const char *name)
{
	static const char *const parts[] = { "pass", "secret", "token", "private_key", "user_data" };

	for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
		if (strcasestr(name, parts[i]))
			return true;
	return false;
}

void agt_json_blot(struct cJSON *v)
{
	for (v = v ? v->child : NULL; v; v = v->next) {
		if (cJSON_IsString(v) && v->string && is_secret_name(v->string))
			memset(v->valuestring, '*', strlen(v->valuestring));
		else
			agt_json_blot(v);
	}
}

void agt_json_prune(struct cJSON *v, const char *name)
{
	struct cJSON *next;

	for (struct cJSON *i = v ? v->child : NULL; i; i = next) {
		next = i->next;
		if (i->string && !strcmp(i->string, name))
			cJSON_Delete(cJSON_DetachItemViaPointer(v, i));
		else
			agt_json_prune(i, name);
	}
}

static bool is_broken(const cJSON *v)
{
	for (; v; v = v->next)
		if (v->type & BROKEN || is_broken(v->child))
			return true;
	return false;
}

int agt_json_print(const struct cJSON *v, bool pretty, struct buf *out, struct err *e)
{
	char *text = NULL;
	int r;

	if (v && !(v->type & BROKEN) && !is_broken(v->child))
		text = pretty ? cJSON_Print(v) : cJSON_PrintUnformatted(v);
	if (!text)
		return err_sysn(e, -ENOMEM, "write JSON");
	r = buf_put(out, text, strlen(text));
	if (r == 0 && pretty)
		r = buf_put(out, "\n", 1);
	cJSON_free(text);
	return r < 0 ? err_sysn(e, -ENOMEM, "write JSON") : 0;
}
