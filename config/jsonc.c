/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Three passes.  blank_comments() overwrites comments with blanks, so that offsets stay those
 * of the file.  check_*() is a recursive-descent reader that knows the grammar and what it
 * expected, and notes where each value begins.  cJSON then builds the tree; it meets the values
 * in the same order, so the n-th node of the tree, parents first, has the n-th mark.
 */
#include "config/jsonc.h"

#include <assert.h>
#include <cjson/cJSON.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "common/io.h"
#include "common/text.h"

#define NUMBER_MAX 63 /* cJSON reads no more bytes of a number than these */

struct mark {
	size_t key; /* offset of the key's quote, or of the value where there is no key */
	size_t value;
	const cJSON *node; /* filled once the tree is there */
};

struct cfg_jsonc {
	char *name;
	struct buf orig; /* as read: positions are counted here */
	struct buf text; /* comments blanked */
	struct mark *mark;
	size_t marks;
	size_t cap;
	cJSON *root;
};

struct scan {
	struct cfg_jsonc *d;
	const uint8_t *p;
	size_t n;
	size_t i;
	unsigned depth;
	struct err *e;
};

static const uint8_t byte_order_mark[] = { 0xef, 0xbb, 0xbf };

static bool starts_with_mark(const uint8_t *p, size_t n)
{
	return n >= sizeof(byte_order_mark) &&
	       !memcmp(p, byte_order_mark, sizeof(byte_order_mark));
}

static struct cfg_jsonc_pos pos_of(struct bytes text, size_t off)
{
	struct cfg_jsonc_pos pos = { .line = 1, .column = 1 };

	for (size_t i = 0; i < off && i < text.n; i++) {
		if (text.p[i] == '\n') {
			pos.line++;
			pos.column = 1;
		} else if ((text.p[i] & 0xc0) != 0x80) {
			pos.column++;
		}
	}
	return pos;
}

static int fail_at(const struct cfg_jsonc *d, size_t off, struct err *e, const char *what)
{
	struct cfg_jsonc_pos pos = pos_of(buf_view(&d->orig), off);

	return err_set(e, -ERR_USAGE, "%s: line %u, column %u: %s", d->name, pos.line,
		       pos.column, what);
}

static int fail(struct scan *s, const char *what)
{
	return fail_at(s->d, s->i, s->e, what);
}

/* "expected this, found that", where that is what stands at the cursor. */
static int expected(struct scan *s, const char *what)
{
	char text[160];

	if (s->i >= s->n)
		snprintf(text, sizeof(text), "expected %s, found the end of the file",
			 what);
	else if (s->p[s->i] > 0x20 && s->p[s->i] < 0x7f)
		snprintf(text, sizeof(text), "expected %s, found '%c'", what, s->p[s->i]);
	else
		snprintf(text, sizeof(text), "expected %s, found byte 0x%02x", what,
			 s->p[s->i]);
	return fail(s, text);
}

static int check_encoding(struct cfg_jsonc *d, struct err *e)
{
	struct bytes v = buf_view(&d->text);
	size_t lo = 0, hi = v.n;

	if (text_is_utf8(v))
		return 0;

	/*
	 * Find the first offence by halves.  A prefix may end inside a character, so look on to
	 * where one begins.
	 */
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2, end = mid + 1;

		while (end < v.n && end < mid + 4 && (v.p[end] & 0xc0) == 0x80)
			end++;
		if (text_is_utf8(bytes_of(v.p, end)))
			lo = mid + 1;
		else
			hi = mid;
	}
	return fail_at(d, lo, e, "expected UTF-8 text, found a byte that is none");
}

static int blank_comments(struct cfg_jsonc *d, struct err *e)
{
	uint8_t *p = d->text.p;
	size_t n = d->text.n, i = 0;
	bool in_string = false;

	while (i < n) {
		size_t start = i;
		bool block;

		if (in_string) {
			/* A line end closes a broken string: the checker will name it. */
			if (p[i] == '"' || p[i] == '\n')
				in_string = false;
			i += p[i] == '\\' ? 2 : 1;
			continue;
		}
		if (p[i] != '/' || i + 1 == n || (p[i + 1] != '/' && p[i + 1] != '*')) {
			in_string = p[i] == '"';
			i++;
			continue;
		}
		block = p[i + 1] == '*';
		for (i += 2; i < n; i++) {
			if (!block && p[i] == '\n')
				break;
			if (block && p[i] == '*' && i + 1 < n && p[i + 1] == '/')
				break;
		}
		if (block && i >= n)
			return fail_at(d, start, e,
				       "expected '*/' at the end of this comment");
		if (block)
			i += 2;

		for (size_t k = start; k < i; k++)
			if (p[k] != '\n' && p[k] != '\r')
				p[k] = ' ';
	}
	return 0;
}

static void skip_blanks(struct scan *s)
{
	while (s->i < s->n && (s->p[s->i] == ' ' || s->p[s->i] == '\t' ||
			       s->p[s->i] == '\n' || s->p[s->i] == '\r'))
		s->i++;
}

static bool at(const struct scan *s, char c)
{
	return s->i < s->n && s->p[s->i] == (uint8_t)c;
}

static bool at_digit(const struct scan *s)
{
	return s->i < s->n && s->p[s->i] >= '0' && s->p[s->i] <= '9';
}

/* Four hexadecimal digits at offset off. */
static bool hex4(const struct scan *s, size_t off, unsigned *ret)
{
	unsigned v = 0;

	for (size_t i = off; i < off + 4; i++) {
		uint8_t c = i < s->n ? s->p[i] : 0;

		if (c >= '0' && c <= '9')
			v = v << 4 | (unsigned)(c - '0');
		else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
			v = v << 4 | (unsigned)((c | 0x20) - 'a' + 10);
		else
			return false;
	}
	*ret = v;
	return true;
}

/* The cursor is on the backslash. */
static int check_escape(struct scan *s)
{
	unsigned hi, lo;

	if (s->i + 1 < s->n && s->p[s->i + 1] && strchr("\"\\/bfnrt", s->p[s->i + 1])) {
		s->i += 2;
		return 0;
	}
	if (s->i + 1 >= s->n || s->p[s->i + 1] != 'u')
		return fail(s,
			    "expected one of \\\" \\\\ \\/ \\b \\f \\n \\r \\t \\uXXXX "
			    "in a string, found another escape");
	if (!hex4(s, s->i + 2, &hi))
		return fail(s, "expected four hexadecimal digits after \\u");
	if (hi == 0)
		return fail(s, "\\u0000 is not accepted: no value here can hold a NUL");
	if (hi < 0xd800 || hi > 0xdfff) {
		s->i += 6;
		return 0;
	}
	if (hi > 0xdbff || s->i + 7 >= s->n || s->p[s->i + 6] != '\\' ||
	    s->p[s->i + 7] != 'u' || !hex4(s, s->i + 8, &lo) || lo < 0xdc00 ||
	    lo > 0xdfff)
		return fail(s, "expected a pair of surrogates (\\uD800-\\uDBFF, then "
			       "\\uDC00-\\uDFFF)");
	s->i += 12;
	return 0;
}

static int check_string(struct scan *s)
{
	size_t start = s->i++;

	while (s->i < s->n && s->p[s->i] != '"') {
		int r = 0;

		if (s->p[s->i] == '\n' || s->p[s->i] == '\r') {
			s->i = start;
			return fail(
				s,
				"expected '\"' at the end of this string, found the end of "
				"the line");
		}
		if (s->p[s->i] < 0x20)
			return fail(
				s,
				"expected control characters in a string to be escaped "
				"(\\t, \\u0007)");
		if (s->p[s->i] == '\\')
			r = check_escape(s);
		else
			s->i++;
		if (r < 0)
			return r;
	}
	if (s->i >= s->n) {
		s->i = start;
		return fail(
			s,
			"expected '\"' at the end of this string, found the end of the file");
	}
	s->i++;
	return 0;
}

static int check_digits(struct scan *s)
{
	if (!at_digit(s))
		return expected(s, "a digit");
	while (at_digit(s))
		s->i++;
	return 0;
}

static int check_number(struct scan *s)
{
	size_t start = s->i;
	int r;

	if (at(s, '-'))
		s->i++;
	if (at(s, '0')) {
		s->i++;
		if (at_digit(s))
			return fail(s, "expected no digit after a leading 0");
	} else {
		r = check_digits(s);
		if (r < 0)
			return r;
	}
	if (at(s, '.')) {
		s->i++;
		r = check_digits(s);
		if (r < 0)
			return r;
	}
	if (at(s, 'e') || at(s, 'E')) {
		s->i++;
		if (at(s, '+') || at(s, '-'))
			s->i++;
		r = check_digits(s);
		if (r < 0)
			return r;
	}
	if (s->i - start > NUMBER_MAX) {
		s->i = start;
		return fail(s, "expected a number of at most 63 characters");
	}
	return 0;
}

static int check_word(struct scan *s)
{
	static const char *const words[] = { "true", "false", "null" };

	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		size_t len = strlen(words[i]);

		if (s->n - s->i >= len && !memcmp(s->p + s->i, words[i], len)) {
			s->i += len;
			return 0;
		}
	}
	return expected(s,
			"a value (object, array, string, number, true, false or null)");
}

static int add_mark(struct scan *s, size_t key, size_t value)
{
	struct cfg_jsonc *d = s->d;

	if (d->marks == d->cap) {
		size_t cap = d->cap ? 2 * d->cap : 64;
		struct mark *m = reallocarray(d->mark, cap, sizeof(*m));

		if (!m)
			return err_sysn(s->e, -ENOMEM, "parse %s", d->name);
		d->mark = m;
		d->cap = cap;
	}
	d->mark[d->marks++] = (struct mark){ .key = key, .value = value };
	return 0;
}

static int check_value(struct scan *s, size_t key);

static int check_members(struct scan *s)
{
	s->i++;
	skip_blanks(s);
	if (at(s, '}')) {
		s->i++;
		return 0;
	}
	for (;;) {
		size_t key = s->i;
		int r;

		if (!at(s, '"'))
			return expected(s, "a key in double quotes");
		r = check_string(s);
		if (r < 0)
			return r;
		skip_blanks(s);
		if (!at(s, ':'))
			return expected(s, "':' after the key");
		s->i++;
		skip_blanks(s);
		r = check_value(s, key);
		if (r < 0)
			return r;
		skip_blanks(s);
		if (at(s, '}')) {
			s->i++;
			return 0;
		}
		if (!at(s, ','))
			return expected(s, "',' or '}' after a value");
		s->i++;
		skip_blanks(s);
		if (at(s, '}'))
			return fail(
				s,
				"expected a key after ',', found '}': the last member takes "
				"no comma");
	}
}

static int check_elements(struct scan *s)
{
	s->i++;
	skip_blanks(s);
	if (at(s, ']')) {
		s->i++;
		return 0;
	}
	for (;;) {
		int r = check_value(s, s->i);

		if (r < 0)
			return r;
		skip_blanks(s);
		if (at(s, ']')) {
			s->i++;
			return 0;
		}
		if (!at(s, ','))
			return expected(s, "',' or ']' after a value");
		s->i++;
		skip_blanks(s);
		if (at(s, ']'))
			return fail(
				s,
				"expected a value after ',', found ']': the last element "
				"takes no comma");
	}
}

/* The cursor is on the value's first byte. */
static int check_value(struct scan *s, size_t key)
{
	int r = add_mark(s, key, s->i);

	if (r < 0)
		return r;
	if (at(s, '"'))
		return check_string(s);
	if (at(s, '-') || at_digit(s))
		return check_number(s);
	if (!at(s, '{') && !at(s, '['))
		return check_word(s);

	if (s->depth == CFG_JSONC_MAX_DEPTH)
		return fail(s, "expected at most 32 levels of nesting");
	s->depth++;
	r = at(s, '{') ? check_members(s) : check_elements(s);
	s->depth--;
	return r;
}

static int check_text(struct cfg_jsonc *d, struct err *e)
{
	struct bytes v = buf_view(&d->text);
	struct scan s = { .d = d, .p = v.p, .n = v.n, .e = e };
	int r;

	skip_blanks(&s);
	r = check_value(&s, s.i);
	if (r < 0)
		return r;
	skip_blanks(&s);
	if (s.i < s.n)
		return expected(&s, "the end of the file after the value");
	return 0;
}

/* Give each node its mark: both were met parents first, in the order of the text. */
static void tie(struct cfg_jsonc *d, const cJSON *node, size_t *next)
{
	for (; node; node = node->next) {
		assert(*next < d->marks);
		d->mark[(*next)++].node = node;
		tie(d, node->child, next);
	}
}

static const struct mark *mark_of(const struct cfg_jsonc *d, const cJSON *node)
{
	for (size_t i = 0; i < d->marks; i++)
		if (d->mark[i].node == node)
			return &d->mark[i];
	return &d->mark[0];
}

static int by_name(const void *a, const void *b)
{
	const cJSON *const *x = a, *const *y = b;

	return strcmp((*x)->string, (*y)->string);
}

static int check_duplicates_of(const struct cfg_jsonc *d, const cJSON *object,
			       struct err *e)
{
	size_t n = (size_t)cJSON_GetArraySize(object), i = 0;
	_cleanup_free_ const cJSON **member = NULL;
	const cJSON *v;

	member = calloc(n ? n : 1, sizeof(*member));
	if (!member)
		return err_sysn(e, -ENOMEM, "parse %s", d->name);
	cJSON_ArrayForEach(v, object) member[i++] = v;
	qsort(member, n, sizeof(*member), by_name);
	for (i = 1; i < n; i++) {
		size_t a, b;
		char name[TEXT_NAME_MAX], text[TEXT_NAME_MAX + 96];

		if (by_name(&member[i - 1], &member[i]))
			continue;
		a = mark_of(d, member[i - 1])->key;
		b = mark_of(d, member[i])->key;
		snprintf(text, sizeof(text),
			 "duplicate key '%s': it was given in line %u already",
			 text_name(name, bytes_str(member[i]->string)),
			 pos_of(buf_view(&d->orig), MIN(a, b)).line);
		return fail_at(d, MAX(a, b), e, text);
	}
	return 0;
}

static int check_duplicates(const struct cfg_jsonc *d, struct err *e)
{
	for (size_t i = 0; i < d->marks; i++) {
		int r = cJSON_IsObject(d->mark[i].node)
				? check_duplicates_of(d, d->mark[i].node, e)
				: 0;

		if (r < 0)
			return r;
	}
	return 0;
}

static int build_tree(struct cfg_jsonc *d, struct err *e)
{
	struct bytes v = buf_view(&d->text);
	const char *end = NULL;
	size_t next = 0;

	d->root = cJSON_ParseWithLengthOpts((const char *)v.p, v.n, &end, 0);
	if (!d->root)
		return fail_at(d, end ? (size_t)(end - (const char *)v.p) : 0, e,
			       "expected what the JSON library can hold");
	tie(d, d->root, &next);
	return 0;
}

int cfg_jsonc_parse(const char *name, struct bytes text, struct cfg_jsonc **ret,
		    struct err *e)
{
	_cleanup_(cfg_jsonc_freep) struct cfg_jsonc *d = NULL;
	int r;

	if (text.n > CFG_JSONC_MAX_BYTES)
		return err_set(e, -ERR_USAGE, "%s: expected at most %u bytes, found %zu",
			       name, CFG_JSONC_MAX_BYTES, text.n);
	d = calloc(1, sizeof(*d));
	if (!d)
		return err_sysn(e, -ENOMEM, "parse %s", name);
	d->name = strdup(name);
	if (!d->name)
		return err_sysn(e, -ENOMEM, "parse %s", name);
	if (starts_with_mark(text.p, text.n))
		text = bytes_of(text.p + sizeof(byte_order_mark),
				text.n - sizeof(byte_order_mark));
	if (buf_put_bytes(&d->orig, text) < 0 || buf_put_bytes(&d->text, text) < 0)
		return err_sysn(e, -ENOMEM, "parse %s", name);

	r = check_encoding(d, e);
	if (r < 0)
		return r;
	r = blank_comments(d, e);
	if (r < 0)
		return r;
	r = check_text(d, e);
	if (r < 0)
		return r;
	r = build_tree(d, e);
	if (r < 0)
		return r;
	r = check_duplicates(d, e);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(d);
	return 0;
}

int cfg_jsonc_read(int dirfd, const char *path, struct cfg_jsonc **ret, struct err *e)
{
	_cleanup_(buf_fini) struct buf text = BUF_INIT;
	char name[TEXT_NAME_MAX];
	int r;

	text_name(name, bytes_str(path));
	r = io_read_file(dirfd, path, CFG_JSONC_MAX_BYTES, &text, e);
	if (r == -EFBIG)
		return err_set(e, -ERR_USAGE, "%s: expected at most %u bytes", name,
			       CFG_JSONC_MAX_BYTES);
	if (r < 0)
		return r;
	return cfg_jsonc_parse(name, buf_view(&text), ret, e);
}

void cfg_jsonc_free(struct cfg_jsonc *d)
{
	if (!d)
		return;
	cJSON_Delete(d->root);
	free(d->mark);
	buf_fini(&d->text);
	buf_fini(&d->orig);
	free(d->name);
	free(d);
}

const struct cJSON *cfg_jsonc_root(const struct cfg_jsonc *d)
{
	return d->root;
}

struct cfg_jsonc_pos cfg_jsonc_value_pos(const struct cfg_jsonc *d, const struct cJSON *v)
{
	return pos_of(buf_view(&d->orig), mark_of(d, v)->value);
}

struct cfg_jsonc_pos cfg_jsonc_key_pos(const struct cfg_jsonc *d, const struct cJSON *v)
{
	return pos_of(buf_view(&d->orig), mark_of(d, v)->key);
}

int cfg_jsonc_ctx(const struct cfg_jsonc *d, const struct cJSON *v, int code,
		  struct err *e)
{
	struct cfg_jsonc_pos pos = cfg_jsonc_value_pos(d, v);

	return err_ctx(e, code, "%s: line %u, column %u", d->name, pos.line, pos.column);
}
