/* SPDX-License-Identifier: Apache-2.0 */
#include "checks/supported.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checks/checks.h"
#include "common/buf.h"
#include "common/io.h"

#define LIST_MAX (1u << 20)
#define VERSION_PARTS 4

struct version {
	unsigned long part[VERSION_PARTS];
};

/* "7.9" and what follows a fourth number is not looked at.  False: no number at all. */
static bool version_of(const char *s, size_t n, struct version *ret)
{
	size_t i = 0, k = 0;

	*ret = (struct version){ 0 };
	while (k < VERSION_PARTS && i < n && isdigit((unsigned char)s[i])) {
		for (; i < n && isdigit((unsigned char)s[i]); i++)
			if (ret->part[k] < 1000000000)
				ret->part[k] = ret->part[k] * 10 + (unsigned long)(s[i] - '0');
		k++;
		if (i < n && s[i] == '.')
			i++;
	}
	return k > 0;
}

static int version_cmp(const struct version *a, const struct version *b)
{
	for (size_t i = 0; i < VERSION_PARTS; i++)
		if (a->part[i] != b->part[i])
			return a->part[i] < b->part[i] ? -1 : 1;
	return 0;
}

/* One item of VERSIONS; false when it is malformed. */
static bool range_of(const char *item, size_t n, struct version *from, struct version *to)
{
	const char *dash = memchr(item, '-', n);
	size_t first = dash ? (size_t)(dash - item) : n;

	if (strspn(item, "0123456789.-") < n || !version_of(item, first, from))
		return false;
	*to = *from;
	return !dash || version_of(dash + 1, n - first - 1, to);
}

static bool versions_hold(const char *versions, const struct version *v)
{
	for (const char *at = versions; *at;) {
		size_t n = strcspn(at, ",");
		struct version from, to;

		if (range_of(at, n, &from, &to) && version_cmp(&from, v) <= 0 &&
		    version_cmp(v, &to) <= 0)
			return true;
		at += n + (at[n] == ',');
	}
	return false;
}

static bool versions_valid(const char *versions)
{
	struct version from, to;

	for (const char *at = versions;; at++) {
		size_t n = strcspn(at, ",");

		if (!range_of(at, n, &from, &to) || version_cmp(&from, &to) > 0)
			return false;
		at += n;
		if (!*at)
			return true;
	}
}

/* "bios", "uefi" or both; false for anything else. */
static bool firmware_of(const char *s, struct chk_supported_row *row)
{
	row->bios = !strcmp(s, "bios") || !strcmp(s, "bios,uefi");
	row->uefi = !strcmp(s, "uefi") || !strcmp(s, "bios,uefi");
	return row->bios || row->uefi;
}

static const char *add_row(struct chk_supported *s, const char *id, char **save)
{
	struct chk_supported_row row = { .edition = "", .note = "" };
	const char *versions = strtok_r(NULL, " \t", save);
	const char *firmware = strtok_r(NULL, " \t", save);
	const char *code = strtok_r(NULL, " \t", save);
	struct chk_supported_row *slot;
	char *word;

	if (!code)
		return "wanted: ID VERSIONS FIRMWARE CODE";
	if (!versions_valid(versions))
		return "the second word is no list of versions";
	if (!firmware_of(firmware, &row))
		return "the third word is neither bios nor uefi nor bios,uefi";
	row.id = chk_mem_str(&s->mem, id);
	row.versions = chk_mem_str(&s->mem, versions);
	row.code = chk_mem_str(&s->mem, code);
	while ((word = strtok_r(NULL, " \t", save))) {
		if (!strncmp(word, "edition=", 8)) {
			row.edition = chk_mem_str(&s->mem, word + 8);
		} else if (!strncmp(word, "note=", 5)) {
			const char *rest = strtok_r(NULL, "", save);

			row.note = chk_mem_printf(&s->mem, "%s%s%s", word + 5, rest ? " " : "",
						  rest ? rest : "");
		} else {
			return "after CODE only edition= and note= may come";
		}
	}
	slot = chk_mem_add(&s->mem, &s->rows, &s->n_rows);
	if (slot)
		*slot = row;
	return NULL;
}

static const char *add_kernel(struct chk_supported *s, char **save)
{
	const char *pattern = strtok_r(NULL, " \t", save);
	const char *values = strtok_r(NULL, " \t", save);
	struct chk_supported_kernel *slot;

	if (!values || strtok_r(NULL, " \t", save))
		return "wanted: kernel PATTERN VALUE,VALUE...";
	if (!strchr(pattern, '*') || strchr(pattern, '*') != strrchr(pattern, '*'))
		return "a kernel's pattern holds one \"*\"";
	slot = chk_mem_add(&s->mem, &s->kernels, &s->n_kernels);
	if (slot)
		*slot = (struct chk_supported_kernel){ chk_mem_str(&s->mem, pattern),
						       chk_mem_str(&s->mem, values) };
	return NULL;
}

int chk_supported_parse(const char *name, const char *text, struct chk_supported *ret,
			struct err *e)
{
	_cleanup_free_ char *copy = strdup(text);
	unsigned number = 0;
	char *rest = copy, *line;

	*ret = (struct chk_supported){ 0 };
	if (!copy)
		return err_set(e, -ENOMEM, "read %s: out of memory", name);
	while ((line = strsep(&rest, "\n"))) {
		const char *bad = NULL, *word;
		char *save = NULL;

		number++;
		line[strcspn(line, "#\r")] = '\0';
		word = strtok_r(line, " \t", &save);
		if (word)
			bad = strcmp(word, "kernel") ? add_row(ret, word, &save) :
						       add_kernel(ret, &save);
		if (bad) {
			chk_supported_fini(ret);
			return err_set(e, -ERR_USAGE, "%s: line %u: %s", name, number, bad);
		}
	}
	if (ret->mem.bad) {
		chk_supported_fini(ret);
		return err_set(e, -ENOMEM, "read %s: out of memory", name);
	}
	return 0;
}

int chk_supported_load(const char *path, struct chk_supported *ret, struct err *e)
{
	_cleanup_(buf_fini) struct buf text = BUF_INIT;
	int r = io_read_file(AT_FDCWD, path, LIST_MAX, &text, e);
	const char *s;

	if (r < 0)
		return err_ctx(e, r, "the list of supported systems");
	s = buf_cstr(&text);
	return s ? chk_supported_parse(path, s, ret, e) :
		   err_set(e, -ENOMEM, "read %s: out of memory", path);
}

void chk_supported_fini(struct chk_supported *s)
{
	chk_mem_fini(&s->mem);
	*s = (struct chk_supported){ 0 };
}

const struct chk_supported_row *chk_supported_find(const struct chk_supported *s,
						   const struct chk_os *os)
{
	struct version v;

	if (!version_of(os->version, strlen(os->version), &v))
		return NULL;
	for (size_t i = 0; i < s->n_rows; i++) {
		const struct chk_supported_row *row = &s->rows[i];

		if (!strcmp(row->id, os->id) && versions_hold(row->versions, &v) &&
		    (!*row->edition || strstr(os->edition, row->edition)))
			return row;
	}
	return NULL;
}

const char *chk_supported_versions(const struct chk_supported *s, const char *id, char *ret,
				   size_t size)
{
	size_t n = 0;

	ret[0] = '\0';
	for (size_t i = 0; i < s->n_rows && n < size; i++)
		if (!strcmp(s->rows[i].id, id))
			n += (size_t)snprintf(ret + n, size - n, "%s%s", n ? "," : "",
					      s->rows[i].versions);
	if (n >= size && size > 4)
		strcpy(ret + size - 4, "...");
	return ret;
}

bool chk_supported_has_kernel(const struct chk_supported *s, const char *release)
{
	for (size_t i = 0; i < s->n_kernels; i++) {
		const char *pattern = s->kernels[i].pattern, *star = strchr(pattern, '*');
		size_t head = (size_t)(star - pattern), tail = strlen(star + 1);
		size_t n = strlen(release);

		if (n <= head + tail || strncmp(release, pattern, head) != 0 ||
		    strcmp(release + n - tail, star + 1) != 0)
			continue;
		n -= head + tail;
		for (const char *at = s->kernels[i].values; *at;) {
			size_t len = strcspn(at, ",");

			if (len == n && !memcmp(at, release + head, n))
				return true;
			at += len + (at[len] == ',');
		}
	}
	return false;
}

/* The template of the row, of any row of that id, or ID_%1_%2_64BIT. */
static const char *template_of(const struct chk_supported *s, const struct chk_os *os)
{
	const struct chk_supported_row *row = chk_supported_find(s, os);

	for (size_t i = 0; i < s->n_rows && !row; i++)
		if (!strcmp(s->rows[i].id, os->id))
			row = &s->rows[i];
	return row ? row->code : NULL;
}

/* The n-th number of a version as it is written there; "0" when it has fewer. */
static struct bytes written_part(const char *version, unsigned n)
{
	const char *at = version;

	for (; n && *at; n--) {
		at += strcspn(at, ".");
		at += *at == '.';
	}
	return isdigit((unsigned char)*at) ? bytes_of(at, strspn(at, "0123456789")) :
					     bytes_str("0");
}

const char *chk_supported_code(const struct chk_supported *s, const struct chk_os *os,
			       const char *arch, char *ret, size_t size)
{
	const char *t = template_of(s, os);
	_cleanup_(buf_fini) struct buf b = BUF_INIT;
	char *bits;
	int r = 0;

	for (const char *c = t ? "" : os->id; *c && r == 0; c++)
		r = buf_put_u8(&b, isalnum((unsigned char)*c) ?
					   (uint8_t)toupper((unsigned char)*c) : '_');
	for (const char *c = t ? t : "_%1_%2_64BIT"; *c && r == 0; c++) {
		if (c[0] == '%' && c[1] >= '1' && c[1] <= '3')
			r = buf_put_bytes(&b, written_part(os->version, (unsigned)(*++c - '1')));
		else
			r = buf_put_u8(&b, (uint8_t)*c);
	}
	snprintf(ret, size, "%s", r == 0 && buf_cstr(&b) ? buf_cstr(&b) : "");
	bits = strstr(ret, "64BIT");
	if (bits && !strcmp(arch, "i386"))
		memcpy(bits, "32", 2);
	return ret;
}

int chk_os_code(const char *path, const struct chk_facts *f, char *ret, size_t size,
		struct err *e)
{
	struct chk_supported s;
	int r = chk_supported_load(path, &s, e);

	if (r < 0)
		return r;
	chk_supported_code(&s, &f->os, f->arch, ret, size);
	chk_supported_fini(&s);
	return 0;
}
