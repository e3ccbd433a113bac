/* SPDX-License-Identifier: Apache-2.0 */
#include "common/text.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <time.h>

/* Bytes of the well-formed UTF-8 sequence at p (RFC 3629, section 4), 0: there is none. */
static size_t utf8_len(const uint8_t *p, size_t n)
{
	size_t len;

	if (p[0] < 0x80)
		return 1;
	if (p[0] < 0xc2 || p[0] > 0xf4)
		return 0;
	len = p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
	if (n < len)
		return 0;
	for (size_t i = 1; i < len; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) ||
	    (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f))
		return 0;
	return len;
}

bool text_is_utf8(struct bytes b)
{
	for (size_t i = 0, len; i < b.n; i += len) {
		len = utf8_len(b.p + i, b.n - i);
		if (!len)
			return false;
	}
	return true;
}

int text_escape(struct buf *out, struct bytes b)
{
	int r = 0;

	for (size_t i = 0, len; i < b.n && r == 0; i += len) {
		uint8_t c = b.p[i];

		len = utf8_len(b.p + i, b.n - i);
		if (len == 0 || c < 0x20 || c == 0x7f) {
			len = 1;
			r = buf_printf(out, "\\x%02x", c);
		} else if (c == '\\') {
			r = buf_put(out, "\\\\", 2);
		} else {
			r = buf_put(out, b.p + i, len);
		}
	}
	return r;
}

const char *text_name(char out[TEXT_NAME_MAX], struct bytes b)
{
	struct buf t = BUF_INIT;
	struct bytes v;

	/* An escaped byte takes four; do not format what cannot fit. */
	b.n = MIN(b.n, (size_t)TEXT_NAME_MAX);
	if (text_escape(&t, b) < 0)
		buf_clear(&t);
	v = buf_view(&t);
	if (v.n >= TEXT_NAME_MAX) {
		size_t cut = TEXT_NAME_MAX - 4;

		/* Never inside a character: messages end up in JSON. */
		while (cut && (v.p[cut] & 0xc0) == 0x80)
			cut--;
		memcpy(out, v.p, cut);
		memcpy(out + cut, "...", 4);
	} else {
		if (v.n)
			memcpy(out, v.p, v.n);
		out[v.n] = '\0';
	}
	buf_fini(&t);
	return out;
}

int text_base64(struct buf *out, struct bytes b)
{
	static const char map[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	int r = 0;

	for (size_t i = 0; i < b.n && r == 0; i += 3) {
		size_t left = b.n - i;
		uint32_t v = (uint32_t)b.p[i] << 16;
		char q[4];

		if (left > 1)
			v |= (uint32_t)b.p[i + 1] << 8;
		if (left > 2)
			v |= b.p[i + 2];
		q[0] = map[v >> 18];
		q[1] = map[v >> 12 & 63];
		q[2] = left > 1 ? map[v >> 6 & 63] : '=';
		q[3] = left > 2 ? map[v & 63] : '=';
		r = buf_put(out, q, sizeof(q));
	}
	return r;
}

static int json_quote(struct buf *out, struct bytes b)
{
	int r = buf_put_u8(out, '"');

	for (size_t i = 0; i < b.n && r == 0; i++) {
		uint8_t c = b.p[i];

		if (c < 0x20 || c == 0x7f)
			r = buf_printf(out, "\\u%04x", c);
		else if (c == '"' || c == '\\')
			r = buf_printf(out, "\\%c", c);
		else
			r = buf_put_u8(out, c);
	}
	return r ? r : buf_put_u8(out, '"');
}

int text_json(struct buf *out, struct bytes b)
{
	struct buf t = BUF_INIT;
	int r;

	if (text_is_utf8(b))
		return json_quote(out, b);
	r = text_escape(&t, b);
	if (r == 0)
		r = json_quote(out, buf_view(&t));
	buf_fini(&t);
	return r;
}

int text_json_path(struct buf *out, struct bytes path)
{
	int r = buf_put(out, "\"path\":", 7);

	if (r == 0)
		r = text_json(out, path);
	if (r < 0 || text_is_utf8(path))
		return r;
	r = buf_put(out, ",\"path_base64\":\"", 16);
	if (r == 0)
		r = text_base64(out, path);
	return r ? r : buf_put_u8(out, '"');
}

int text_parse_size(const char *s, uint64_t *ret, struct err *e)
{
	static const char units[] = "KMGTP";
	double v, base = 1024;
	const char *u;
	char *end;

	errno = 0;
	v = strtod(s, &end);
	if (end == s || errno || !isfinite(v) || v < 0)
		goto bad;
	if (*end) {
		u = strchr(units, *end >= 'a' ? *end - 32 : *end);
		if (!u)
			goto bad;
		end++;
		if (!strcmp(end, "B") || !strcmp(end, "b"))
			base = 1000;
		else if (*end && strcmp(end, "iB") != 0)
			goto bad;
		v *= pow(base, (double)(u - units + 1));
	}
	if (v >= 9.2e18)
		goto bad;
	*ret = (uint64_t)v;
	return 0;
bad:
	return err_set(e, -ERR_USAGE, "'%s' is not a size: give a number with K, M, G or T, like 20M", s);
}

const char *text_size(char out[32], uint64_t bytes)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	double v = (double)bytes;
	size_t u = 0;

	for (; v >= 1024 && u + 1 < ARRAY_SIZE(units); u++)
		v /= 1024;
	if (u == 0)
		snprintf(out, 32, "%.0f %s", v, units[u]);
	else
		snprintf(out, 32, "%.1f %s", v, units[u]);
	return out;
}

const char *text_duration(char out[32], double seconds)
{
	uint64_t s = seconds > 0 && seconds < 1e12 ? (uint64_t)seconds : 0;

	snprintf(out, 32, "%02llu:%02llu:%02llu", (unsigned long long)(s / 3600),
		 (unsigned long long)(s / 60 % 60), (unsigned long long)(s % 60));
	return out;
}

const char *text_utc(char out[32], int64_t epoch_s)
{
	time_t t = (time_t)epoch_s;
	struct tm tm;

	if (!gmtime_r(&t, &tm) || !strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &tm))
		out[0] = '\0';
	return out;
}

const char *text_local(char out[32], int64_t epoch_s)
{
	time_t t = (time_t)epoch_s;
	char zone[8] = "";
	struct tm tm;

	/* strftime() writes +hhmm; ISO 8601's extended form wants +hh:mm. */
	if (localtime_r(&t, &tm) && strftime(out, 24, "%Y-%m-%dT%H:%M:%S", &tm) &&
	    strftime(zone, sizeof(zone), "%z", &tm) == 5)
		snprintf(out + strlen(out), 8, "%.3s:%.2s", zone, zone + 3);
	else
		out[0] = '\0';
	return out;
}
