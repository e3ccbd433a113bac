/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/known_hosts.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/sha256.h"
#include "common/text.h"

#define HASHED_MAX 128 /* characters of a salt or a hash: 20 bytes in base64 are 28 */

struct known_line {
	unsigned number;
	struct bytes marker; /* "@revoked", or empty */
	struct bytes names;
	struct bytes type;
	struct bytes key; /* base64 */
};

int tp_base64_decode(struct buf *out, struct bytes text)
{
	static const char map[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	uint32_t v = 0;
	unsigned bits = 0;

	while (text.n && text.p[text.n - 1] == '=')
		text.n--;
	for (size_t i = 0; i < text.n; i++) {
		const char *digit = text.p[i] ? strchr(map, text.p[i]) : NULL;

		if (!digit)
			return -EINVAL;
		v = v << 6 | (uint32_t)(digit - map);
		bits += 6;
		if (bits < 8)
			continue;
		bits -= 8;
		if (buf_put_u8(out, (uint8_t)(v >> bits)) < 0)
			return -ENOMEM;
	}
	return 0;
}

const char *tp_key_type(char out[TP_KEY_TYPE_SIZE], struct bytes key)
{
	size_t n = key.n < 4 ? 0 : (size_t)key.p[0] << 24 | key.p[1] << 16 | key.p[2] << 8 | key.p[3];

	out[0] = '\0';
	if (!n || n >= TP_KEY_TYPE_SIZE || n > key.n - 4)
		return out;
	for (size_t i = 0; i < n; i++)
		if (!isgraph(key.p[4 + i]))
			return out;
	memcpy(out, key.p + 4, n);
	out[n] = '\0';
	return out;
}

const char *tp_key_fingerprint(char out[TP_FINGERPRINT_SIZE], struct bytes key)
{
	uint8_t sum[SHA256_BYTES];
	struct buf text = BUF_INIT;
	struct sha256 s;

	sha256_init(&s);
	sha256_add(&s, key.p, key.n);
	sha256_end(&s, sum);
	out[0] = '\0';
	if (text_base64(&text, bytes_of(sum, sizeof(sum))) == 0)
		/* 32 bytes are 43 digits and one '=', which OpenSSH leaves out. */
		snprintf(out, TP_FINGERPRINT_SIZE, "SHA256:%.43s", (const char *)text.p);
	buf_fini(&text);
	return out;
}

static struct bytes take_word(struct bytes *line)
{
	struct bytes w;

	while (line->n && (*line->p == ' ' || *line->p == '\t'))
		*line = bytes_of(line->p + 1, line->n - 1);
	w = bytes_of(line->p, 0);
	while (w.n < line->n && w.p[w.n] != ' ' && w.p[w.n] != '\t' && w.p[w.n] != '\r')
		w.n++;
	*line = bytes_of(line->p + w.n, line->n - w.n);
	return w;
}

/* The next line that names a key; false at the end of the text. */
static bool next_line(struct bytes *text, struct known_line *l)
{
	while (text->n) {
		const uint8_t *nl = memchr(text->p, '\n', text->n);
		struct bytes line = bytes_of(text->p, nl ? (size_t)(nl - text->p) : text->n);

		*text = bytes_of(text->p + line.n + (nl ? 1 : 0), text->n - line.n - (nl ? 1 : 0));
		l->number++;
		l->marker = bytes_of(NULL, 0);
		l->names = take_word(&line);
		if (!l->names.n || l->names.p[0] == '#')
			continue;
		if (l->names.p[0] == '@') {
			l->marker = l->names;
			l->names = take_word(&line);
		}
		l->type = take_word(&line);
		l->key = take_word(&line);
		if (l->key.n)
			return true;
	}
	return false;
}

/* The shell-like patterns of known_hosts: '*' and '?', without regard to case. */
static bool glob_match(struct bytes pat, const char *s)
{
	const char *back_s = NULL;
	size_t i = 0, back_i = 0;

	while (*s) {
		if (i < pat.n && pat.p[i] == '*') {
			back_i = ++i;
			back_s = s;
		} else if (i < pat.n && (pat.p[i] == '?' || tolower(pat.p[i]) == *s)) {
			i++;
			s++;
		} else if (back_s) {
			i = back_i;
			s = ++back_s;
		} else {
			return false;
		}
	}
	while (i < pat.n && pat.p[i] == '*')
		i++;
	return i == pat.n;
}

static bool hashed_match(struct bytes names, const struct tp_known_host *h, const char *name)
{
	struct bytes salt = bytes_of(names.p + 3, names.n - 3);
	const uint8_t *bar = memchr(salt.p, '|', salt.n);
	char salt_text[HASHED_MAX], hash_text[HASHED_MAX];
	struct bytes hash;

	if (!bar || !h->hashed)
		return false;
	hash = bytes_of(bar + 1, (size_t)(salt.p + salt.n - bar - 1));
	salt.n = (size_t)(bar - salt.p);
	if (!salt.n || !hash.n || salt.n >= HASHED_MAX || hash.n >= HASHED_MAX)
		return false;
	memcpy(salt_text, salt.p, salt.n);
	salt_text[salt.n] = '\0';
	memcpy(hash_text, hash.p, hash.n);
	hash_text[hash.n] = '\0';
	return h->hashed(h->arg, salt_text, hash_text, name);
}

/* A list of patterns matches when one does and none of the negated ones ("!name") does. */
static bool names_match(struct bytes names, const struct tp_known_host *h, const char *name)
{
	bool found = false;

	if (names.n > 3 && memcmp(names.p, "|1|", 3) == 0)
		return hashed_match(names, h, name);
	while (names.n) {
		const uint8_t *comma = memchr(names.p, ',', names.n);
		struct bytes pat = bytes_of(names.p, comma ? (size_t)(comma - names.p) : names.n);
		bool negated = pat.n && pat.p[0] == '!';

		names = bytes_of(names.p + pat.n + (comma ? 1 : 0), names.n - pat.n - (comma ? 1 : 0));
		if (negated)
			pat = bytes_of(pat.p + 1, pat.n - 1);
		if (!pat.n || !glob_match(pat, name))
			continue;
		if (negated)
			return false;
		found = true;
	}
	return found;
}

int tp_known_name(struct buf *out, const struct tp_known_host *h)
{
	size_t from = out->n;
	int r = h->port == 22 ? buf_put_bytes(out, bytes_str(h->host)) :
				buf_printf(out, "[%s]:%u", h->host, h->port);

	for (size_t i = from; r == 0 && i < out->n; i++)
		out->p[i] = (uint8_t)tolower(out->p[i]);
	return r;
}

static bool is_marker(struct bytes marker, const char *name)
{
	return bytes_eq(marker, bytes_str(name));
}

static void answer_set(struct tp_known_answer *a, enum tp_known_verdict v,
		       const struct known_line *l)
{
	struct buf blob = BUF_INIT;

	*a = (struct tp_known_answer){ .verdict = v, .line = l->number };
	snprintf(a->type, sizeof(a->type), "%.*s", (int)MIN(l->type.n, sizeof(a->type) - 1),
		 (const char *)l->type.p);
	if (tp_base64_decode(&blob, l->key) == 0)
		tp_key_fingerprint(a->fingerprint, buf_view(&blob));
	buf_fini(&blob);
}

/* Lines for one spelling of the host. */
static void check_name(struct bytes text, const struct tp_known_host *h, const char *name,
		       struct bytes type, struct bytes key_b64, struct tp_known_answer *a)
{
	bool same_type = false;
	struct known_line l = { 0 };

	while (next_line(&text, &l)) {
		bool same_key = bytes_eq(l.key, key_b64);
		bool revoked = is_marker(l.marker, "@revoked");

		if ((l.marker.n && !revoked) || !names_match(l.names, h, name))
			continue;
		if (revoked && same_key) {
			answer_set(a, TP_KNOWN_REVOKED, &l);
			return;
		}
		if (revoked)
			continue;
		if (same_key) {
			answer_set(a, TP_KNOWN_MATCH, &l);
		} else if (a->verdict < TP_KNOWN_MATCH && !same_type) {
			same_type = bytes_eq(l.type, type);
			if (same_type || a->verdict == TP_KNOWN_NONE)
				answer_set(a, TP_KNOWN_CHANGED, &l);
		}
	}
}

struct tp_known_answer tp_known_check(struct bytes text, const struct tp_known_host *h,
				      struct bytes key)
{
	struct tp_known_answer a = { 0 }, plain = { 0 };
	struct buf name = BUF_INIT, b64 = BUF_INIT;
	struct tp_known_host at22 = *h;
	char type[TP_KEY_TYPE_SIZE];
	const char *s;

	tp_key_type(type, key);
	if (text_base64(&b64, key) < 0 || tp_known_name(&name, h) < 0 || !(s = buf_cstr(&name)))
		goto out;
	check_name(text, h, s, bytes_str(type), buf_view(&b64), &a);
	if (h->port == 22)
		goto out;
	/*
	 * As ssh does: a line without a port vouches for (or revokes) a key on any port, but
	 * says nothing against another one, since each port may be another machine.
	 */
	at22.port = 22;
	buf_clear(&name);
	if (tp_known_name(&name, &at22) < 0 || !(s = buf_cstr(&name)))
		goto out;
	check_name(text, h, s, bytes_str(type), buf_view(&b64), &plain);
	if (plain.verdict == TP_KNOWN_REVOKED ||
	    (a.verdict == TP_KNOWN_NONE && plain.verdict == TP_KNOWN_MATCH))
		a = plain;
out:
	buf_fini(&name);
	buf_fini(&b64);
	return a;
}

/* True when the comma-ended list has the item. */
static bool list_has(struct bytes list, struct bytes item)
{
	while (list.n) {
		const uint8_t *comma = memchr(list.p, ',', list.n);
		size_t n = comma ? (size_t)(comma - list.p) : list.n;

		if (bytes_eq(bytes_of(list.p, n), item))
			return true;
		n += comma ? 1 : 0;
		list = bytes_of(list.p + n, list.n - n);
	}
	return false;
}

int tp_known_types(struct bytes text, const struct tp_known_host *h, struct buf *out)
{
	struct known_line l = { 0 };
	struct buf name = BUF_INIT;
	int r = tp_known_name(&name, h);
	const char *s = r < 0 ? NULL : buf_cstr(&name);

	while (s && r == 0 && next_line(&text, &l)) {
		if (l.marker.n || l.type.n >= TP_KEY_TYPE_SIZE || !names_match(l.names, h, s) ||
		    list_has(buf_view(out), l.type))
			continue;
		r = buf_put_bytes(out, l.type);
		if (r == 0)
			r = buf_put_u8(out, ',');
	}
	buf_fini(&name);
	return s ? r : -ENOMEM;
}

int tp_known_line(struct buf *out, const struct tp_known_host *h, struct bytes key)
{
	char type[TP_KEY_TYPE_SIZE];
	int r;

	if (!*tp_key_type(type, key))
		return -EINVAL;
	for (const char *p = h->host; *p; p++)
		if (!isgraph((unsigned char)*p) || strchr(",*?!|#@", *p))
			return -EINVAL;
	r = tp_known_name(out, h);
	if (r == 0)
		r = buf_printf(out, " %s ", type);
	if (r == 0)
		r = text_base64(out, key);
	return r == 0 ? buf_put_u8(out, '\n') : r;
}
