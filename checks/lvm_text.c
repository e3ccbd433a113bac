/* SPDX-License-Identifier: Apache-2.0 */
#include "checks/lvm_text.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/io.h"

#define METADATA_MAX (4u << 20) /* lvm's own default area is 1 MiB */
#define DEPTH_MAX 8

enum kind { T_END, T_WORD, T_STRING, T_MARK, T_BAD };

struct lexer {
	const char *at;
};

struct token {
	enum kind kind;
	const char *p; /* of strings without the quotes */
	size_t n;
};

static struct token next(struct lexer *l)
{
	const char *s = l->at;

	for (;; s++) {
		if (*s == '#')
			s += strcspn(s, "\n");
		if (!isspace((unsigned char)*s))
			break;
	}
	l->at = s;
	if (!*s)
		return (struct token){ T_END, s, 0 };
	if (*s == '"') {
		size_t n = 1;

		while (s[n] && s[n] != '"')
			n += s[n] == '\\' && s[n + 1] ? 2 : 1;
		if (!s[n])
			return (struct token){ T_BAD, s, 0 };
		l->at = s + n + 1;
		return (struct token){ T_STRING, s + 1, n - 1 };
	}
	if (strchr("{}[]=,", *s)) {
		l->at = s + 1;
		return (struct token){ T_MARK, s, 1 };
	}
	l->at = s + strcspn(s, " \t\r\n\"{}[]=,#");
	return l->at == s ? (struct token){ T_BAD, s, 0 } :
			    (struct token){ T_WORD, s, (size_t)(l->at - s) };
}

static bool is(struct token t, const char *word)
{
	return t.n == strlen(word) && !memcmp(t.p, word, t.n);
}

static bool is_mark(struct token t, char mark)
{
	return t.kind == T_MARK && *t.p == mark;
}

struct parse {
	struct chk_mem *m;
	struct chk_lvm_vg *vg;
	struct token path[DEPTH_MAX]; /* names of the sections that are open */
	size_t depth;
	uint64_t segment_extents;
	bool segment_striped;
};

static uint64_t number(struct token t)
{
	char digits[24] = "";

	if (t.n < sizeof(digits))
		memcpy(digits, t.p, t.n);
	return strtoull(digits, NULL, 10);
}

/* Ids are written in groups with dashes; device mapper writes them without. */
static const char *id_of(struct chk_mem *m, struct token t)
{
	char id[64];
	size_t n = 0;

	for (size_t i = 0; i < t.n && n < sizeof(id); i++)
		if (t.p[i] != '-')
			id[n++] = t.p[i];
	return chk_mem_strn(m, id, n);
}

static const char *copy(struct parse *p, struct token t)
{
	return chk_mem_strn(p->m, t.p, t.n);
}

static struct chk_lvm_pv *last_pv(struct parse *p)
{
	return p->depth == 3 && p->vg->n_pvs && is(p->path[1], "physical_volumes") ?
		       &p->vg->pvs[p->vg->n_pvs - 1] : NULL;
}

static struct chk_lvm_lv *last_lv(struct parse *p, size_t depth)
{
	return p->depth == depth && p->vg->n_lvs && is(p->path[1], "logical_volumes") ?
		       &p->vg->lvs[p->vg->n_lvs - 1] : NULL;
}

/* key = value, where value is one token; items of arrays come here one by one. */
static void take_value(struct parse *p, struct token key, struct token v)
{
	struct chk_lvm_pv *pv = last_pv(p);
	struct chk_lvm_lv *lv = last_lv(p, 3), *segment_of = last_lv(p, 4);

	if (p->depth == 1 && is(key, "id"))
		p->vg->id = id_of(p->m, v);
	else if (p->depth == 1 && is(key, "seqno"))
		p->vg->seqno = number(v);
	else if (p->depth == 1 && is(key, "extent_size"))
		p->vg->extent_bytes = number(v) * 512;
	else if (pv && is(key, "id"))
		pv->id = id_of(p->m, v);
	else if (pv && is(key, "pe_count"))
		pv->extents = number(v);
	else if (pv && is(key, "flags") && is(v, "MISSING"))
		pv->missing = true;
	else if (lv && is(key, "id"))
		lv->id = id_of(p->m, v);
	else if (lv && is(key, "status") && is(v, "VISIBLE"))
		lv->visible = true;
	else if (segment_of && is(key, "extent_count"))
		p->segment_extents = number(v);
	else if (segment_of && is(key, "type")) {
		p->segment_striped = is(v, "striped") || is(v, "linear");
		segment_of->simple &= p->segment_striped || is(v, "snapshot");
	}
}

static struct chk_lvm_pv *pv_named(struct chk_lvm_vg *vg, struct token name)
{
	for (size_t i = 0; i < vg->n_pvs; i++)
		if (is(name, vg->pvs[i].name))
			return &vg->pvs[i];
	return NULL;
}

/*
 * stripes = ["pv0", 0, "pv1", 512]: each takes an equal share of the segment's extents.
 * The other kinds of segments lie on logical volumes of their own, which come by themselves.
 */
static void take_stripe(struct parse *p, struct token key, struct token v, uint64_t count)
{
	struct chk_lvm_pv *pv;

	if (!last_lv(p, 4) || !is(key, "stripes") || v.kind != T_STRING || !p->segment_striped)
		return;
	pv = pv_named(p->vg, v);
	if (pv && count)
		pv->used_extents += p->segment_extents / count;
}

/* How many stripes an array has: its strings.  l stands behind the "[". */
static uint64_t count_strings(struct lexer l)
{
	uint64_t n = 0;

	for (struct token t = next(&l); t.kind != T_END && t.kind != T_BAD && !is_mark(t, ']');
	     t = next(&l))
		n += t.kind == T_STRING;
	return n;
}

static int take_array(struct parse *p, struct lexer *l, struct token key)
{
	uint64_t stripes = count_strings(*l);

	for (;;) {
		struct token t = next(l);

		if (is_mark(t, ']'))
			return 0;
		if (is_mark(t, ','))
			continue;
		if (t.kind != T_STRING && t.kind != T_WORD)
			return -EBADMSG;
		take_value(p, key, t);
		take_stripe(p, key, t, stripes);
	}
}

static int open_section(struct parse *p, struct token name)
{
	if (p->depth == DEPTH_MAX)
		return -EBADMSG;
	p->path[p->depth++] = name;
	if (p->depth == 1) {
		if (p->vg->name) /* one group a text */
			return -EBADMSG;
		p->vg->name = copy(p, name);
	} else if (p->depth == 3 && is(p->path[1], "physical_volumes")) {
		struct chk_lvm_pv *pv = chk_mem_add(p->m, &p->vg->pvs, &p->vg->n_pvs);

		if (pv)
			*pv = (struct chk_lvm_pv){ .name = copy(p, name), .id = "" };
	} else if (p->depth == 3 && is(p->path[1], "logical_volumes")) {
		struct chk_lvm_lv *lv = chk_mem_add(p->m, &p->vg->lvs, &p->vg->n_lvs);

		if (lv)
			*lv = (struct chk_lvm_lv){ .name = copy(p, name), .id = "", .simple = true };
	} else if (last_lv(p, 4)) {
		p->segment_extents = 0;
		p->segment_striped = false;
	}
	return p->m->bad ? -ENOMEM : 0;
}

static void close_section(struct parse *p)
{
	struct chk_lvm_lv *lv = last_lv(p, 4);

	if (lv)
		lv->extents += p->segment_extents;
	p->depth--;
}

int chk_lvm_parse(const char *text, struct chk_mem *m, struct chk_lvm_vg *ret)
{
	struct parse p = { .m = m, .vg = ret };
	struct lexer l = { text };
	int r = 0;

	*ret = (struct chk_lvm_vg){ 0 };
	while (r == 0) {
		struct token t = next(&l), t2;

		if (t.kind == T_END)
			break;
		if (is_mark(t, '}') && p.depth) {
			close_section(&p);
			continue;
		}
		t2 = next(&l);
		if (t.kind != T_WORD) {
			r = -EBADMSG;
		} else if (is_mark(t2, '{')) {
			r = open_section(&p, t);
		} else if (is_mark(t2, '=')) {
			t2 = next(&l);
			if (is_mark(t2, '['))
				r = take_array(&p, &l, t);
			else if (t2.kind == T_WORD || t2.kind == T_STRING)
				take_value(&p, t, t2);
			else
				r = -EBADMSG;
		} else {
			r = -EBADMSG;
		}
	}
	if (m->bad)
		return -ENOMEM;
	return r < 0 || p.depth || !ret->name || !ret->id || !ret->extent_bytes ? -EBADMSG : 0;
}

/* --- where the text is --- */

#define SECTOR 512

struct area {
	uint64_t off, size;
};

/*
 * One of the first four sectors is the label: "LABELONE", its sector, a checksum, the offset
 * of the header in it, "LVM2 001".  The header: 32 bytes of id, the device's size, data
 * areas up to an empty one, metadata areas up to an empty one.
 */
static int find_area(const uint8_t *head, char pv_id[33], struct area *ret)
{
	for (size_t s = 0; s < 4; s++) {
		const uint8_t *sector = head + s * SECTOR;
		size_t at = le32_get(sector + 20);
		unsigned list = 0;

		if (memcmp(sector, "LABELONE", 8) != 0 || memcmp(sector + 24, "LVM2 001", 8) != 0)
			continue;
		if (at < 32 || at > SECTOR - 40)
			return -EBADMSG;
		memcpy(pv_id, sector + at, 32);
		pv_id[32] = '\0';
		for (at += 40; at + 16 <= SECTOR; at += 16) {
			struct area a = { le64_get(sector + at), le64_get(sector + at + 8) };

			if (!a.off) {
				if (++list == 2)
					return -ENODATA;
			} else if (list == 1) {
				*ret = a;
				return 0;
			}
		}
		return -EBADMSG;
	}
	return -EBADMSG;
}

/*
 * The area begins with a sector: checksum, magic, version, own offset and size, and where in
 * the ring behind it the current text is.
 */
static int read_text(int fd, struct area area, struct buf *text)
{
	uint8_t h[SECTOR];
	uint64_t off, size, first;

	if (io_pread_full(fd, h, sizeof(h), area.off) != sizeof(h) ||
	    memcmp(h + 4, " LVM2 x[5A%r0N*>", 16) != 0 || le64_get(h + 24) != area.off)
		return -EBADMSG;
	area.size = le64_get(h + 32);
	off = le64_get(h + 40);
	size = le64_get(h + 48);
	if (!size)
		return -ENODATA;
	if (size > METADATA_MAX || off < SECTOR || area.size > (UINT64_C(1) << 40) ||
	    off >= area.size || size > area.size - SECTOR)
		return -EBADMSG;
	if (buf_reserve(text, size + 1) < 0)
		return -ENOMEM;
	first = MIN(size, area.size - off);
	if (io_pread_full(fd, text->p, first, area.off + off) != (ssize_t)first ||
	    io_pread_full(fd, text->p + first, size - first, area.off + SECTOR) !=
		    (ssize_t)(size - first))
		return -EBADMSG;
	text->n = size;
	return buf_cstr(text) ? 0 : -ENOMEM;
}

int chk_lvm_read(const struct chk_root *root, const char *path, struct chk_mem *m,
		 char pv_id[33], struct chk_lvm_vg *ret)
{
	_cleanup_close_ int fd = chk_open(root, path, O_RDONLY | O_NONBLOCK);
	_cleanup_(buf_fini) struct buf text = BUF_INIT;
	uint8_t head[4 * SECTOR];
	struct area area;
	int r;

	if (fd < 0)
		return fd;
	if (io_pread_full(fd, head, sizeof(head), 0) != sizeof(head))
		return -EBADMSG;
	r = find_area(head, pv_id, &area);
	if (r == 0)
		r = read_text(fd, area, &text);
	return r < 0 ? r : chk_lvm_parse(buf_cstr(&text), m, ret);
}
