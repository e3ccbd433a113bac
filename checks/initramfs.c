/* SPDX-License-Identifier: Apache-2.0 */
#include "checks/initramfs.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "checks/unpack.h"
#include "common/io.h"
#include "common/macro.h"

#define WINDOW_BYTES 65536
#define HEADER_BYTES 110
#define NAME_MAX_BYTES 4096

/* Bytes of the image, plain from fd or, from some place on, through u. */
struct source {
	int fd;
	struct chk_unpack *u;
	int64_t until_ns;
	uint64_t off; /* in the plain file: how far the window reaches */
	size_t at, n; /* the unread part of window */
	bool ended;
	uint8_t window[WINDOW_BYTES];
};

/* More bytes behind those that are unread; 0 at the end, 1 when there are some. */
static int fill(struct source *s, struct err *e)
{
	ssize_t n;

	if (s->ended)
		return 0;
	memmove(s->window, s->window + s->at, s->n - s->at);
	s->n -= s->at;
	s->at = 0;
	if (clock_mono_ns() > s->until_ns)
		return err_set(e, -ETIME, "it was not read to its end in the time there is");
	if (s->u) {
		n = chk_unpack_read(s->u, s->window + s->n, sizeof(s->window) - s->n, e);
	} else {
		n = io_pread_full(s->fd, s->window + s->n, sizeof(s->window) - s->n, s->off);
		if (n < 0)
			err_sysn(e, (int)n, "read");
		else
			s->off += (uint64_t)n;
	}
	if (n < 0)
		return (int)n;
	s->n += (size_t)n;
	s->ended = n == 0;
	return n > 0;
}

/* Have want bytes in the window.  1, or 0: it ends before. */
static int need(struct source *s, size_t want, struct err *e)
{
	int r = 1;

	while (s->n - s->at < want && r > 0)
		r = fill(s, e);
	return r;
}

static int skip(struct source *s, uint64_t n, struct err *e)
{
	while (n) {
		size_t have = s->n - s->at;
		int r;

		if (n <= have) {
			s->at += (size_t)n;
			return 0;
		}
		n -= have;
		s->at = s->n;
		r = fill(s, e);
		if (r <= 0)
			return r < 0 ? r : err_set(e, -EBADMSG, "it is cut off");
	}
	return 0;
}

/* Padding between archives; 1 when something follows. */
static int skip_zeros(struct source *s, struct err *e)
{
	for (;;) {
		int r = need(s, 1, e);

		if (r <= 0)
			return r;
		while (s->at < s->n && !s->window[s->at])
			s->at++;
		if (s->at < s->n)
			return 1;
	}
}

/* Eight hex digits. */
static bool hex(const uint8_t *p, uint32_t *ret)
{
	*ret = 0;
	for (unsigned i = 0; i < 8; i++) {
		unsigned c = p[i], d = c >= '0' && c <= '9' ? c - '0' :
				       (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : 16;

		if (d == 16)
			return false;
		*ret = *ret << 4 | d;
	}
	return true;
}

/* "lib/modules/6.1/kernel/drivers/block/virtio_blk.ko.xz" holds virtio_blk. */
static bool is_module(const char *name, size_t n, const char *module)
{
	const char *slash = memrchr(name, '/', n);
	const char *base = slash ? slash + 1 : name;
	size_t len = n - (size_t)(base - name), want = strlen(module);

	if (len < want + 3 || memcmp(base + want, ".ko", 3) != 0 ||
	    (len > want + 3 && base[want + 3] != '.'))
		return false;
	for (size_t i = 0; i < want; i++)
		if ((base[i] == '-' ? '_' : base[i]) != module[i])
			return false;
	return true;
}

/* True when none is left to be found. */
static bool note(const char *name, size_t n, const char *const *modules, unsigned char *found)
{
	bool all = true;

	for (size_t i = 0; modules[i]; i++) {
		found[i] |= is_module(name, n, modules[i]);
		all &= found[i];
	}
	return all;
}

static bool is_cpio(const uint8_t *p)
{
	return !memcmp(p, "070701", 6) || !memcmp(p, "070702", 6);
}

/* One member.  1: go on, 0: all found, 2: that was the trailer. */
static int member(struct source *s, const char *const *modules, unsigned char *found,
		  struct err *e)
{
	uint32_t size, name_size;
	uint64_t head;
	bool last, all;
	int r = need(s, HEADER_BYTES, e);

	if (r < 0)
		return r;
	if (r == 0 || !is_cpio(s->window + s->at) || !hex(s->window + s->at + 54, &size) ||
	    !hex(s->window + s->at + 94, &name_size) || name_size > NAME_MAX_BYTES || !name_size)
		return err_set(e, -EBADMSG, "it is no cpio archive, or damaged");
	head = (HEADER_BYTES + name_size + 3) & ~3u;
	r = need(s, HEADER_BYTES + name_size, e);
	if (r <= 0)
		return r < 0 ? r : err_set(e, -EBADMSG, "it is cut off");
	const char *name = (const char *)s->window + s->at + HEADER_BYTES;

	last = name_size == 11 && !memcmp(name, "TRAILER!!!", 11);
	all = note(name, name_size - 1, modules, found);
	if (all)
		return 0;
	if (last) {
		/* Nothing need be behind it, not even the padding. */
		s->at += HEADER_BYTES + name_size;
		return 2;
	}
	r = skip(s, head + (((uint64_t)size + 3) & ~UINT64_C(3)), e);
	return r < 0 ? r : 1;
}

/* Plain archives up to a compressed one, or all there are in a stream.  1: more follows. */
static int archives(struct source *s, const char *const *modules, unsigned char *found,
		    unsigned *ret_seen, struct err *e)
{
	int r;

	for (;;) {
		r = skip_zeros(s, e);
		if (r <= 0)
			return r;
		r = need(s, 6, e);
		if (r < 0)
			return r;
		if (r == 0 || !is_cpio(s->window + s->at))
			return 1;
		do
			r = member(s, modules, found, e);
		while (r == 1);
		if (r <= 0)
			return r;
		++*ret_seen;
	}
}

int chk_initramfs_find(int fd, const char *const *modules, unsigned char *found, int64_t until_ns,
		       struct err *e)
{
	_cleanup_free_ struct source *s = calloc(1, sizeof(*s));
	unsigned seen = 0, inside = 0;
	int r;

	if (!s)
		return err_set(e, -ENOMEM, "read an initramfs: out of memory");
	s->fd = fd;
	s->until_ns = until_ns;
	r = archives(s, modules, found, &seen, e);
	if (r <= 0)
		return r < 0 || seen || note("", 0, modules, found) ?
			       r : err_set(e, -EBADMSG, "it is empty");
	/* What follows is compressed; the stream begins where the window stands. */
	if (lseek(fd, (off_t)(s->off - (s->n - s->at)), SEEK_SET) < 0)
		return err_sys(e, "seek");
	s->at = s->n = 0;
	s->ended = false;
	r = chk_unpack_open(fd, &s->u, e);
	if (r == 0)
		r = archives(s, modules, found, &inside, e);
	if (r >= 0 && !inside && !note("", 0, modules, found))
		r = err_set(e, -EBADMSG, "it holds no cpio archive");
	else if (r == 1 || (r == -EBADMSG && inside))
		r = 0; /* bytes behind the end that are not zero */
	chk_unpack_free(s->u);
	return r;
}
