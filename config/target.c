/* SPDX-License-Identifier: Apache-2.0 */
#include "config/target.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static int no_memory(struct err *e)
{
	return err_sysn(e, -ENOMEM, "target");
}

static bool alnum(char c)
{
	return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
}

/* An IPv6 address, with an interface after '%' if there is one. */
static bool is_ipv6(const char *s)
{
	char address[INET6_ADDRSTRLEN];
	size_t n = strcspn(s, "%");
	struct in6_addr in6;

	if (n >= sizeof(address) || (s[n] && !s[n + 1]))
		return false;
	for (const char *zone = s + n; *zone; zone++)
		if (!alnum(*zone) && !strchr("%.-_", *zone))
			return false;
	memcpy(address, s, n);
	address[n] = '\0';
	return inet_pton(AF_INET6, address, &in6) == 1;
}

int cfg_target_host(const char *text, char **ret, struct err *e)
{
	_cleanup_free_ char *host = NULL;
	size_t n = strlen(text);

	if (n == 0)
		return err_set(e, -ERR_USAGE, "target host is empty");
	if (n > CFG_TARGET_HOST_MAX)
		return err_set(e, -ERR_USAGE, "target host is longer than %d bytes",
			       CFG_TARGET_HOST_MAX);
	if (text[0] == '[') {
		if (text[n - 1] != ']')
			return err_set(e, -ERR_USAGE,
				       "target host has '[' without ']' at its end");
		host = strndup(text + 1, n - 2);
		if (!host)
			return no_memory(e);
		if (!is_ipv6(host))
			return err_set(e, -ERR_USAGE,
				       "target host in brackets is not an IPv6 address");
		*ret = TAKE_PTR(host);
		return 0;
	}
	if (!is_ipv6(text)) {
		/* A leading dash would be an option to anything that hands the name on. */
		if (text[0] == '-')
			return err_set(e, -ERR_USAGE, "target host begins with '-'");
		for (const char *p = text; *p; p++)
			if (!alnum(*p) && !strchr(".-_", *p))
				return err_set(
					e, -ERR_USAGE,
					"target host has a character that host names do "
					"not have (an IPv6 address goes in brackets)");
	}
	host = strdup(text);
	if (!host)
		return no_memory(e);
	*ret = TAKE_PTR(host);
	return 0;
}

int cfg_target_user(const char *text, char **ret, struct err *e)
{
	char *user;

	if (!*text)
		return err_set(e, -ERR_USAGE, "target user is empty");
	if (strlen(text) > CFG_TARGET_USER_MAX)
		return err_set(e, -ERR_USAGE, "target user is longer than %d bytes",
			       CFG_TARGET_USER_MAX);
	if (*text == '-')
		return err_set(e, -ERR_USAGE, "target user begins with '-'");
	for (const char *p = text; *p; p++)
		if ((uint8_t)*p <= 0x20 || *p == 0x7f || strchr(":/", *p))
			return err_set(
				e, -ERR_USAGE,
				"target user has a character that user names do not have");
	user = strdup(text);
	if (!user)
		return no_memory(e);
	*ret = user;
	return 0;
}

/* Copy a root without empty and '.' components. */
static int normal_root(const char *text, char **ret, struct err *e)
{
	_cleanup_free_ char *out = malloc(strlen(text) + 2);
	size_t n = 0;

	if (!out)
		return no_memory(e);
	for (const char *p = text; *p;) {
		size_t len = strcspn(p, "/");

		if (len == 2 && !memcmp(p, "..", 2))
			return err_set(
				e, -ERR_USAGE,
				"target root has a '..' component: give the directory itself");
		if (len && !(len == 1 && *p == '.')) {
			out[n++] = '/';
			memcpy(out + n, p, len);
			n += len;
		}
		p += len;
		p += strspn(p, "/");
	}
	if (n == 0)
		out[n++] = '/';
	out[n] = '\0';
	*ret = TAKE_PTR(out);
	return 0;
}

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Decode %XX in place. */
static int percent_decode(char *s, const char *part, struct err *e)
{
	char *out = s;

	for (; *s; s++) {
		int hi, lo;

		if (*s != '%') {
			*out++ = *s;
			continue;
		}
		hi = hex(s[1]);
		lo = hi < 0 ? -1 : hex(s[2]);
		if (lo < 0)
			return err_set(
				e, -ERR_USAGE,
				"target %s has '%%' without two hexadecimal digits",
				part);
		if (hi == 0 && lo == 0)
			return err_set(e, -ERR_USAGE, "target %s has %%00 in it", part);
		*out++ = (char)(hi << 4 | lo);
		s += 2;
	}
	*out = '\0';
	return 0;
}

static int parse_port(const char *s, unsigned *ret, struct err *e)
{
	unsigned v = 0;

	for (const char *p = s; *p; p++) {
		if (*p < '0' || *p > '9' || v > 65535)
			v = 65536;
		else
			v = 10 * v + (unsigned)(*p - '0');
	}
	if (v < 1 || v > 65535)
		return err_set(e, -ERR_USAGE,
			       "target port is not a number from 1 to 65535");
	*ret = v;
	return 0;
}

/*
 * Cut "user@" off an authority.  Returns what follows; *user is NULL when there is none.
 * The last '@' counts: user names of directory services hold one themselves.
 */
static int cut_user(char *authority, char **user, char **rest, struct err *e)
{
	char *sep = strrchr(authority, '@');

	*user = NULL;
	*rest = authority;
	if (!sep)
		return 0;
	*sep = '\0';
	if (strchr(authority, ':'))
		return err_set(
			e, -ERR_USAGE,
			"target has a password in it, which every user of this host could "
			"read: use --password-file");
	*user = authority;
	*rest = sep + 1;
	return 0;
}

/* Cut a host into "host" and what follows its ':' (NULL: no ':' there). */
static int cut_host(char *s, char **after, struct err *e)
{
	char *end = s;

	if (*s == '[') {
		end = strchr(s, ']');
		if (!end)
			return err_set(e, -ERR_USAGE, "target host has '[' without ']'");
		end++;
		if (*end && *end != ':')
			return err_set(e, -ERR_USAGE,
				       "target host has something after ']'");
	} else {
		end += strcspn(s, ":");
	}
	*after = *end ? end + 1 : NULL;
	*end = '\0';
	return 0;
}

static int parse_url(char *s, struct cfg_target *t, struct err *e)
{
	size_t n = strcspn(s, "/");
	_cleanup_free_ char *authority = strndup(s, n);
	char *root = s + n, *user, *host, *port;
	int r;

	if (!authority)
		return no_memory(e);
	r = cut_user(authority, &user, &host, e);
	if (r < 0)
		return r;
	if (*host != '[' && strchr(host, ':') != strrchr(host, ':'))
		return err_set(e, -ERR_USAGE,
			       "target host has more than one ':': "
			       "an IPv6 address goes in brackets, [::1]");
	r = cut_host(host, &port, e);
	if (r < 0)
		return r;
	if (port) {
		r = parse_port(port, &t->port, e);
		if (r < 0)
			return r;
	}
	if (!*root)
		return err_set(
			e, -ERR_USAGE,
			"target root is missing: ssh://host/root, or ssh://host/ for /");
	if (strpbrk(root, "?#"))
		return err_set(
			e, -ERR_USAGE,
			"target root has '?' or '#' in it: in a URL write %%3F or %%23");
	if (user) {
		r = percent_decode(user, "user", e);
		if (r < 0)
			return r;
		r = cfg_target_user(user, &t->user, e);
		if (r < 0)
			return r;
	}
	r = percent_decode(host, "host", e);
	if (r < 0)
		return r;
	r = cfg_target_host(host, &t->host, e);
	if (r < 0)
		return r;
	r = percent_decode(root, "root", e);
	if (r < 0)
		return r;
	return normal_root(root, &t->root, e);
}

static int parse_short(const char *s, struct cfg_target *t, struct err *e)
{
	size_t n = strcspn(s, "/");
	_cleanup_free_ char *authority = strndup(s, n);
	char *user, *host, *after;
	int r;

	if (!authority)
		return no_memory(e);
	if (n == 0)
		return err_set(e, -ERR_USAGE,
			       "target host is missing: [user@]host:/root");
	r = cut_user(authority, &user, &host, e);
	if (r < 0)
		return r;
	if (*host != '[') {
		size_t len = strlen(host);

		if (len && host[len - 1] == ':') {
			host[len - 1] = '\0';
			if (is_ipv6(host))
				return err_set(
					e, -ERR_USAGE,
					"target host is an IPv6 address without brackets: "
					"[::1]:/root");
			host[len - 1] = ':';
		}
	}
	r = cut_host(host, &after, e);
	if (r < 0)
		return r;
	if (!after)
		return err_set(e, -ERR_USAGE,
			       "target root is missing: no ':/' after the host");
	if (*after == ':')
		return err_set(
			e, -ERR_USAGE,
			"target has '::' after the host, which is for an rsync daemon: "
			"stager speaks SSH, [user@]host:/root");
	if (*after || s[n] != '/')
		return err_set(
			e, -ERR_USAGE,
			"target root is not absolute: it would depend on the login "
			"directory, so write it from '/' on (a port goes into --port)");
	if (user) {
		r = cfg_target_user(user, &t->user, e);
		if (r < 0)
			return r;
	}
	r = cfg_target_host(host, &t->host, e);
	if (r < 0)
		return r;
	return normal_root(s + n, &t->root, e);
}

/* True when spec begins with "scheme://". */
static bool has_scheme(const char *spec)
{
	size_t n = 0;

	while (alnum(spec[n]) || (n && spec[n] && strchr("+.-", spec[n])))
		n++;
	return n && !strncmp(spec + n, "://", 3);
}

int cfg_target_parse(const char *spec, struct cfg_target *ret, struct err *e)
{
	static const char scheme[] = "ssh://";
	_cleanup_(cfg_target_fini) struct cfg_target t = { 0 };
	_cleanup_free_ char *copy = NULL;
	int r;

	if (!*spec)
		return err_set(e, -ERR_USAGE, "target is empty: [user@]host:/root");
	if (!strncasecmp(spec, scheme, strlen(scheme))) {
		copy = strdup(spec + strlen(scheme));
		if (!copy)
			return no_memory(e);
		r = parse_url(copy, &t, e);
	} else if (has_scheme(spec)) {
		return err_set(e, -ERR_USAGE, "target scheme is not ssh://");
	} else {
		r = parse_short(spec, &t, e);
	}
	if (r < 0)
		return r;
	*ret = t;
	t = (struct cfg_target){ 0 };
	return 0;
}

void cfg_target_fini(struct cfg_target *t)
{
	if (!t)
		return;
	free(t->user);
	free(t->host);
	free(t->root);
	*t = (struct cfg_target){ 0 };
}
