/* SPDX-License-Identifier: Apache-2.0 */
#include "checks/os.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checks/root.h"

static const char *const paths[CHK_RELEASE_FILES][2] = {
	[CHK_RELEASE_OS] = { "etc/os-release", "usr/lib/os-release" },
	[CHK_RELEASE_ORACLE] = { "etc/oracle-release" },
	[CHK_RELEASE_CENTOS] = { "etc/centos-release" },
	[CHK_RELEASE_EULEROS] = { "etc/euleros-release" },
	[CHK_RELEASE_REDHAT] = { "etc/redhat-release" },
	[CHK_RELEASE_SYSTEM] = { "etc/system-release" },
	[CHK_RELEASE_SUSE] = { "etc/SuSE-release" },
	[CHK_RELEASE_LSB] = { "etc/lsb-release" },
	[CHK_RELEASE_DEBIAN] = { "etc/debian_version" },
};

/* Names that stand before "release X.Y" in a line of /etc/redhat-release and the like. */
static const struct {
	const char *begin, *id;
} line_ids[] = {
	{ "Red Hat Enterprise Linux", "rhel" },
	{ "CentOS", "centos" },
	{ "Oracle Linux", "ol" },
	{ "Enterprise Linux Enterprise Linux", "ol" }, /* Oracle's 5 */
	{ "EulerOS", "euleros" },
	{ "Fedora", "fedora" },
	{ "Amazon Linux", "amzn" },
};

/* As much of os-release's quoting as there is: quotes, and backslashes outside of ''. */
static const char *unquote(const char *s, size_t n, struct chk_mem *m)
{
	char quote = '\0';
	char *out = chk_mem_get(m, n + 1);
	size_t len = 0;

	if (!out)
		return "";
	for (size_t i = 0; i < n; i++) {
		if (s[i] == '\\' && quote != '\'' && i + 1 < n)
			out[len++] = s[++i];
		else if (quote ? s[i] == quote : s[i] == '"' || s[i] == '\'')
			quote = quote ? '\0' : s[i];
		else
			out[len++] = s[i];
	}
	return out;
}

const char *chk_os_value(const char *text, const char *key, struct chk_mem *m)
{
	size_t n = strlen(key);

	for (const char *line = text; *line;) {
		size_t len = strcspn(line, "\n");
		size_t skip = strspn(line, " \t");

		/* SuSE-release writes "VERSION = 11". */
		if (skip < len && !strncmp(line + skip, key, n)) {
			const char *at = line + skip + n, *end = line + len;

			at += strspn(at, " \t");
			if (at < end && *at == '=') {
				at++;
				at += strspn(at, " \t");
				while (end > at && isspace((unsigned char)end[-1]))
					end--;
				return unquote(at, end > at ? (size_t)(end - at) : 0, m);
			}
		}
		line += len + (line[len] == '\n');
	}
	return "";
}

/* The number at s and up to parts - 1 more after dots; "" when s begins with no digit. */
static const char *number(const char *s, unsigned parts, struct chk_mem *m)
{
	size_t n = 0;

	while (isdigit((unsigned char)s[n]) ||
	       (n && s[n] == '.' && isdigit((unsigned char)s[n + 1]) && --parts))
		n++;
	return chk_mem_strn(m, s, n);
}

/* "CentOS Linux release 7.9.2009 (Core)": 7.9.  Streams have no point release: 8.0. */
static const char *line_version(const char *line, struct chk_mem *m)
{
	const char *at = strstr(line, "release ");
	const char *v = at ? number(at + strlen("release "), 2, m) : "";

	if (*v && !strncmp(line, "CentOS Stream", strlen("CentOS Stream")))
		return chk_mem_printf(m, "%s.0", number(v, 1, m));
	return v;
}

/* The first line, at most 200 bytes of it. */
static const char *first_line(const char *text, struct chk_mem *m)
{
	size_t n = strcspn(text, "\r\n");

	return chk_mem_strn(m, text, MIN(n, (size_t)200));
}

static bool from_line(const char *text, const char *source, struct chk_mem *m, struct chk_os *ret)
{
	const char *line = first_line(text, m);

	for (size_t i = 0; i < ARRAY_SIZE(line_ids); i++) {
		if (strncmp(line, line_ids[i].begin, strlen(line_ids[i].begin)) != 0)
			continue;
		*ret = (struct chk_os){ line_ids[i].id, line_version(line, m), line, line, source };
		return *ret->version;
	}
	return false;
}

static const char *lower(const char *s, struct chk_mem *m)
{
	char *out = chk_mem_get(m, strlen(s) + 1);

	for (size_t i = 0; out && s[i]; i++)
		out[i] = (char)tolower((unsigned char)s[i]);
	return out ? out : "";
}

static bool from_os_release(const char *text, struct chk_mem *m, struct chk_os *ret)
{
	const char *id = chk_os_value(text, "ID", m);
	const char *version = chk_os_value(text, "VERSION_ID", m);

	if (!*id)
		return false;
	if (*version == 'V' || *version == 'v') /* Kylin's "V10" */
		version++;
	*ret = (struct chk_os){
		.id = lower(id, m),
		.version = version,
		.edition = chk_os_value(text, "VERSION", m),
		.pretty = chk_os_value(text, "PRETTY_NAME", m),
		.source = paths[CHK_RELEASE_OS][0],
	};
	return true;
}

static bool from_suse(const char *text, struct chk_mem *m, struct chk_os *ret)
{
	const char *line = first_line(text, m);
	const char *version = number(chk_os_value(text, "VERSION", m), 2, m);
	const char *level = number(chk_os_value(text, "PATCHLEVEL", m), 1, m);

	if (!*version)
		return false;
	*ret = (struct chk_os){
		.id = strstr(line, "openSUSE") ? "opensuse" : "sles",
		.version = *level ? chk_mem_printf(m, "%s.%s", version, level) : version,
		.edition = line,
		.pretty = line,
		.source = paths[CHK_RELEASE_SUSE][0],
	};
	return true;
}

static bool from_lsb(const char *text, struct chk_mem *m, struct chk_os *ret)
{
	const char *id = chk_os_value(text, "DISTRIB_ID", m);
	const char *version = chk_os_value(text, "DISTRIB_RELEASE", m);

	if (!*id || !*version)
		return false;
	*ret = (struct chk_os){
		.id = lower(id, m),
		.version = version,
		.edition = version,
		.pretty = chk_os_value(text, "DISTRIB_DESCRIPTION", m),
		.source = paths[CHK_RELEASE_LSB][0],
	};
	return true;
}

static bool from_debian(const char *text, struct chk_mem *m, struct chk_os *ret)
{
	const char *version = number(text, 3, m);

	if (!*version) /* "wheezy/sid" says no version */
		return false;
	*ret = (struct chk_os){
		.id = "debian",
		.version = version,
		.edition = version,
		.pretty = chk_mem_printf(m, "Debian %s", version),
		.source = paths[CHK_RELEASE_DEBIAN][0],
	};
	return true;
}

/* "EulerOS release 2.0 (SP5)" and VERSION="2.0 (SP5)" are called 2.5.0. */
static const char *euler_version(const struct chk_os *os, struct chk_mem *m)
{
	const char *sp = strstr(os->edition, "(SP");

	if (strncmp(os->version, "2.0", 3) != 0 || !sp)
		return os->version;
	return chk_mem_printf(m, "2.%s.0", number(sp + 3, 1, m));
}

/* True when both begin with the same number: a leftover file of an older release does not. */
static bool same_major(const char *a, const char *b)
{
	return strtoul(a, NULL, 10) == strtoul(b, NULL, 10);
}

/* os-release of CentOS says "7", of Debian "12": the other file has the point release. */
static void add_point_release(const char *const text[CHK_RELEASE_FILES], struct chk_mem *m,
			      struct chk_os *os)
{
	const char *line = text[CHK_RELEASE_CENTOS] ? text[CHK_RELEASE_CENTOS] :
						      text[CHK_RELEASE_REDHAT];
	const char *version = "";

	if (!strcmp(os->id, "euleros"))
		version = euler_version(os, m);
	else if (!strcmp(os->id, "debian") && text[CHK_RELEASE_DEBIAN])
		version = number(text[CHK_RELEASE_DEBIAN], 3, m);
	else if (!strcmp(os->id, "centos") && line)
		version = line_version(first_line(line, m), m);
	if (*version && (!*os->version || same_major(os->version, version)))
		os->version = version;
}

bool chk_os_parse(const char *const text[CHK_RELEASE_FILES], struct chk_mem *m,
		  struct chk_os *ret)
{
	static const enum chk_release_file lines[] = {
		CHK_RELEASE_ORACLE, CHK_RELEASE_CENTOS, CHK_RELEASE_EULEROS, CHK_RELEASE_REDHAT,
		CHK_RELEASE_SYSTEM,
	};
	static const struct {
		enum chk_release_file file;
		bool (*parse)(const char *text, struct chk_mem *m, struct chk_os *ret);
	} others[] = {
		{ CHK_RELEASE_SUSE, from_suse },
		{ CHK_RELEASE_LSB, from_lsb },
		{ CHK_RELEASE_DEBIAN, from_debian },
	};
	bool told;

	*ret = (struct chk_os){ "", "", "", "", "" };
	told = text[CHK_RELEASE_OS] && from_os_release(text[CHK_RELEASE_OS], m, ret);
	for (size_t i = 0; i < ARRAY_SIZE(lines) && !told; i++)
		told = text[lines[i]] && from_line(text[lines[i]], paths[lines[i]][0], m, ret);
	for (size_t i = 0; i < ARRAY_SIZE(others) && !told; i++)
		told = text[others[i].file] && others[i].parse(text[others[i].file], m, ret);
	if (told)
		add_point_release(text, m, ret);
	else
		*ret = (struct chk_os){ "", "", "", "", "" };
	return told;
}

int chk_os_read(const struct chk_root *root, struct chk_mem *m, struct chk_os *ret, struct err *e)
{
	const char *text[CHK_RELEASE_FILES] = { 0 };
	_cleanup_(buf_fini) struct buf b = BUF_INIT;
	struct err first = { 0 };

	for (size_t i = 0; i < CHK_RELEASE_FILES; i++) {
		for (size_t k = 0; k < 2 && paths[i][k] && !text[i]; k++) {
			struct err why = { 0 };
			int r = chk_read(root, paths[i][k], &b, &why);

			if (r == 0)
				text[i] = chk_mem_strn(m, buf_cstr(&b), buf_len(&b));
			else if (r != -ENOENT && !first.code)
				first = why;
		}
	}
	if (chk_os_parse(text, m, ret))
		return 0;
	/* Not being allowed to look is something else than there being nothing. */
	if (first.code) {
		*e = first;
		return e->code;
	}
	return err_set(e, -ENOENT, "no release file below %s says which system this is (/etc/os-release and its predecessors)",
		       root->path);
}
