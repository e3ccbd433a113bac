/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/sign.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "common/secret.h"
#include "common/sha256.h"

#define ALGORITHM "SDK-HMAC-SHA256"
#define HEADERS_MAX 32

/* The headers that are signed, in the order of their lower-case names. */
struct signed_headers {
	const struct agt_http_header *v[HEADERS_MAX];
	size_t n;
};

int agt_sign_encode(struct buf *out, struct bytes b)
{
	for (size_t i = 0; i < b.n; i++) {
		uint8_t c = b.p[i];
		int r;

		if ((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
		    c == '-' || c == '_' || c == '.' || c == '~')
			r = buf_put_u8(out, c);
		else
			r = buf_printf(out, "%%%02X", c);
		if (r < 0)
			return r;
	}
	return 0;
}

static int pair_cmp(const struct agt_pair *a, const struct agt_pair *b)
{
	int c = strcmp(a->name, b->name);

	return c ? c : strcmp(a->value, b->value);
}

int agt_sign_query(struct buf *out, const struct agt_pair *pairs, size_t n)
{
	const struct agt_pair *last = NULL;
	size_t told = 0;

	/* The few pairs of a query, smallest first; equal ones are told as often as they come. */
	while (told < n) {
		const struct agt_pair *next = NULL;

		for (size_t i = 0; i < n; i++)
			if ((!last || pair_cmp(&pairs[i], last) > 0) &&
			    (!next || pair_cmp(&pairs[i], next) < 0))
				next = &pairs[i];
		for (size_t i = 0; i < n; i++) {
			int r;

			if (pair_cmp(&pairs[i], next) != 0)
				continue;
			r = told++ ? buf_put(out, "&", 1) : 0;
			if (r == 0)
				r = agt_sign_encode(out, bytes_str(next->name));
			if (r == 0)
				r = buf_put(out, "=", 1);
			if (r == 0)
				r = agt_sign_encode(out, bytes_str(next->value));
			if (r < 0)
				return r;
		}
		last = next;
	}
	return 0;
}

const char *agt_sign_date(char out[AGT_SIGN_DATE_SIZE], int64_t epoch_s)
{
	time_t t = (time_t)epoch_s;
	struct tm tm;

	if (!gmtime_r(&t, &tm) || !strftime(out, AGT_SIGN_DATE_SIZE, "%Y%m%dT%H%M%SZ", &tm))
		out[0] = '\0';
	return out;
}

/* ---- the canonical request ---- */

static int pick_headers(const struct agt_sign_request *request, struct signed_headers *ret,
			struct err *e)
{
	for (size_t i = 0; i < request->n_headers; i++) {
		const struct agt_http_header *h = &request->headers[i];
		size_t at = ret->n;

		if (strchr(h->name, '_'))
			continue;
		if (ret->n == HEADERS_MAX)
			return err_set(e, -EINVAL, "sign: more than %d headers", HEADERS_MAX);
		for (; at > 0 && strcasecmp(ret->v[at - 1]->name, h->name) > 0; at--)
			ret->v[at] = ret->v[at - 1];
		ret->v[at] = h;
		ret->n++;
	}
	return 0;
}

static const char *find_header(const struct agt_sign_request *request, const char *name)
{
	for (size_t i = 0; i < request->n_headers; i++)
		if (!strcasecmp(request->headers[i].name, name))
			return request->headers[i].value;
	return NULL;
}

static int put_lower(struct buf *out, const char *name)
{
	int r = 0;

	for (; *name && r == 0; name++)
		r = buf_put_u8(out, (uint8_t)tolower((unsigned char)*name));
	return r;
}

static int put_trimmed(struct buf *out, const char *value)
{
	size_t n;

	value += strspn(value, " \t");
	n = strlen(value);
	while (n && strchr(" \t", value[n - 1]))
		n--;
	return buf_put(out, value, n);
}

static int put_names(struct buf *out, const struct signed_headers *h)
{
	int r = 0;

	for (size_t i = 0; i < h->n && r == 0; i++) {
		r = i ? buf_put(out, ";", 1) : 0;
		if (r == 0)
			r = put_lower(out, h->v[i]->name);
	}
	return r;
}

static int put_headers(struct buf *out, const struct signed_headers *h)
{
	int r = 0;

	for (size_t i = 0; i < h->n && r == 0; i++) {
		r = put_lower(out, h->v[i]->name);
		if (r == 0)
			r = buf_put(out, ":", 1);
		if (r == 0)
			r = put_trimmed(out, h->v[i]->value);
		if (r == 0)
			r = buf_put(out, "\n", 1);
	}
	return r;
}

static int put_canonical(const struct agt_sign_request *request,
			 const struct signed_headers *h, struct buf *out)
{
	const char *path = request->path, *hash = find_header(request, "X-Sdk-Content-Sha256");
	char digest[SHA256_HEX_SIZE];
	size_t n = strlen(path);
	int r;

	if (!hash)
		hash = sha256_hex(digest, request->body);
	r = buf_printf(out, "%s\n%s%s\n%s\n", request->method, path,
		       n && path[n - 1] == '/' ? "" : "/", request->query ? request->query : "");
	if (r == 0)
		r = put_headers(out, h);
	if (r == 0)
		r = buf_put(out, "\n", 1);
	if (r == 0)
		r = put_names(out, h);
	return r < 0 ? r : buf_printf(out, "\n%s", hash);
}

static int no_memory(struct err *e)
{
	return err_sysn(e, -ENOMEM, "sign a request");
}

int agt_sign_canonical(const struct agt_sign_request *request, struct buf *out, struct err *e)
{
	struct signed_headers h = { 0 };
	int r = pick_headers(request, &h, e);

	if (r < 0)
		return r;
	return put_canonical(request, &h, out) < 0 ? no_memory(e) : 0;
}

int agt_sign_authorization(const struct agt_sign_request *request, const char *ak,
			   const struct secret *sk, struct buf *out, struct err *e)
{
	_cleanup_(buf_fini) struct buf canonical = BUF_INIT, text = BUF_INIT;
	const char *date = find_header(request, "X-Sdk-Date");
	char digest[SHA256_HEX_SIZE], signature[SHA256_HEX_SIZE];
	struct signed_headers h = { 0 };
	uint8_t mac[SHA256_BYTES];
	int r = pick_headers(request, &h, e);

	if (r < 0)
		return r;
	if (!date)
		return err_set(e, -EINVAL, "sign: the request has no date");
	if (put_canonical(request, &h, &canonical) < 0 ||
	    buf_printf(&text, ALGORITHM "\n%s\n%s", date,
		       sha256_hex(digest, buf_view(&canonical))) < 0)
		return no_memory(e);
	sha256_hmac(secret_view(sk), buf_view(&text), mac);
	if (buf_printf(out, ALGORITHM " Access=%s, SignedHeaders=", ak) < 0 ||
	    put_names(out, &h) < 0 ||
	    buf_printf(out, ", Signature=%s", sha256_digits(signature, mac, sizeof(mac))) < 0)
		return no_memory(e);
	return 0;
}
