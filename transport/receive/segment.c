/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A segment is hashed as it is written, so its offsets must grow.  Its range is made a hole
 * first, when there is anything in it: a segment that is sent again leaves no trace of what
 * came before, and what is left out of it needs no work.
 */
#include "transport/receive/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "common/io.h"
#include "transport/hash.h"
#include "transport/receive/dirs.h"
#include "transport/receive/file.h"
#include "transport/receive/metaset.h"
#include "transport/receive/place.h"

struct segment {
	int fd;              /* -1: it has failed */
	int basis_fd;        /* -1: none */
	struct rcv_dir *dir; /* counted */
	struct rcv_name temp;
	uint64_t off, end;   /* its range of the file */
	uint64_t at;         /* nothing before it may come any more */
	struct tp_hash *hash;
	struct rcv_fault fault;
};

struct rcv_segments {
	unsigned open;
	struct segment *slots[TP_SLOT_MAX];
};

int rcv_segments_new(struct rcv_segments **ret, struct err *e)
{
	struct rcv_segments *segs = calloc(1, sizeof(*segs));

	if (!segs)
		return err_set(e, -ENOMEM, "out of memory");
	*ret = segs;
	return 0;
}

static void seg_free(struct segment *s)
{
	if (!s)
		return;
	if (s->fd >= 0)
		close(s->fd);
	if (s->basis_fd >= 0)
		close(s->basis_fd);
	rcv_dir_put(s->dir);
	tp_hash_free(s->hash);
	free(s);
}

static void seg_end(struct rcv_segments *segs, uint16_t slot)
{
	seg_free(TAKE_PTR(segs->slots[slot]));
	segs->open--;
}

void rcv_segments_free(struct rcv_segments *segs)
{
	if (!segs)
		return;
	for (size_t i = 0; i < TP_SLOT_MAX; i++)
		seg_free(segs->slots[i]);
	free(segs);
}

bool rcv_segments_busy(const struct rcv_segments *segs, uint16_t slot)
{
	return slot < TP_SLOT_MAX && segs->slots[slot];
}

/* Keep v->fault for the CLOSE.  Where there is no room, what takes it up is given back. */
static void seg_fail(struct rcv_env *v, struct segment *s)
{
	s->fault = v->fault;
	if (s->fd >= 0)
		close(TAKE_FD(s->fd));
	if (s->dir && (s->fault.code == -ENOSPC || s->fault.code == -EDQUOT))
		rcv_temp_drop(s->dir, s->temp.s);
}

/* NULL, and v->fault is -ERR_PROTOCOL: the peer names a slot that is not open. */
static struct segment *seg_get(struct rcv_env *v, struct rcv_segments *segs, uint16_t slot)
{
	if (rcv_segments_busy(segs, slot))
		return segs->slots[slot];
	rcv_fail(v, -ERR_PROTOCOL, "slot", "slot %u has no segment", slot);
	return NULL;
}

/* [off, off + n) comes next: 0, or -ERR_PROTOCOL. */
static int seg_reach(struct rcv_env *v, struct segment *s, uint64_t off, uint64_t n)
{
	if (off < s->at || off > s->end || n > s->end - off)
		return rcv_fail(v, -ERR_PROTOCOL, "segment",
				"content that overlaps, or is outside of its segment");
	s->at = off + n;
	return 0;
}

/* Let the range be a hole. */
static int seg_clear(struct rcv_env *v, struct segment *s, uint64_t size)
{
	uint64_t end = MIN(s->end, size), from, to;
	int r = tp_next_data(s->fd, s->off, end, &from, &to);

	if (r == 0 && from >= end)
		return 0;
	if (r == 0 && fallocate(s->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				(off_t)s->off, (off_t)(s->end - s->off)) == 0)
		return 0;
	return rcv_write_zeros(v, s->fd, s->temp.s, s->off, end);
}

static int seg_open(struct rcv_env *v, struct segment *s, const struct tp_range *m,
		    uint8_t flags)
{
	struct rcv_name basis;
	uint64_t size;
	struct stat st;
	int fd = rcv_temp_open(v, s->temp.s, flags & TP_F_CREATE);

	if (fd < 0)
		return fd;
	s->fd = fd;
	if (fstat(fd, &st) < 0)
		return rcv_fail_sys(v, "stat", s->temp.s);
	size = (uint64_t)st.st_size;
	/* It only grows here: another receiver may know a larger size by now. */
	if (size < m->size && ftruncate(fd, (off_t)m->size) < 0)
		return rcv_fail_sys(v, "set size", s->temp.s);
	if (flags & TP_F_COPIES) {
		rcv_name_of(m->basis, &basis);
		s->basis_fd = openat(v->cur->fd, basis.s,
				     O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
		if (s->basis_fd < 0 || fstat(s->basis_fd, &st) < 0 || !S_ISREG(st.st_mode))
			return rcv_fail(v, -(int)TP_E_MISMATCH, "copy",
					"there is no file to copy from");
	}
	return seg_clear(v, s, size);
}

static int seg_begin(struct rcv_env *v, struct segment *s, const struct tp_range *m,
		     uint8_t flags)
{
	struct err e = { 0 };
	int r;

	if (!v->cur) {
		v->fault = v->cur_fault;
		return v->fault.code;
	}
	if (tp_hash_new(&s->hash, &e) < 0)
		return rcv_fail(v, -ENOMEM, "open", "%s", e.text);
	r = seg_open(v, s, m, flags);
	if (rcv_dir_lost(v->cur, r)) {
		r = rcv_dir_renew(v, &v->cur);
		if (r == 0)
			r = seg_open(v, s, m, flags);
	}
	if (v->cur)
		s->dir = rcv_dir_ref(v->cur);
	return r;
}

int rcv_segments_open(struct rcv_env *v, struct rcv_segments *segs, uint16_t slot,
		      const struct tp_range *m, uint8_t flags)
{
	struct segment *s;

	if (slot >= TP_SLOT_MAX || segs->slots[slot])
		return rcv_fail(v, -ERR_PROTOCOL, "slot", "slot %u is in use or too high", slot);
	if (segs->open >= RCV_SEGMENTS_MAX)
		return rcv_fail(v, -ERR_PROTOCOL, "slot", "more than %u segments are open",
				RCV_SEGMENTS_MAX);
	s = calloc(1, sizeof(*s));
	if (!s)
		return rcv_fail(v, -ENOMEM, "open", "out of memory");
	s->fd = s->basis_fd = -1;
	s->off = s->at = m->off;
	s->end = m->off + m->bytes;
	rcv_name_of(m->name, &s->temp);
	segs->slots[slot] = s;
	segs->open++;
	if (seg_begin(v, s, m, flags) < 0)
		seg_fail(v, s);
	return 0;
}

static int seg_write(struct rcv_env *v, struct segment *s, uint64_t off, struct bytes data)
{
	int r = io_pwrite_all(s->fd, data.p, data.n, off);

	if (r < 0) {
		errno = -r;
		return rcv_fail_sys(v, "write", s->temp.s);
	}
	tp_hash_update(s->hash, off - s->off, data.p, data.n);
	return 0;
}

int rcv_segments_data(struct rcv_env *v, struct rcv_segments *segs, uint16_t slot, uint64_t off,
		      struct bytes data)
{
	struct segment *s = seg_get(v, segs, slot);

	if (!s || seg_reach(v, s, off, data.n) < 0)
		return v->fault.code;
	if (s->fd >= 0 && seg_write(v, s, off, data) < 0)
		seg_fail(v, s);
	return 0;
}

int rcv_segments_hole(struct rcv_env *v, struct rcv_segments *segs, uint16_t slot, uint64_t off,
		      uint64_t n)
{
	struct segment *s = seg_get(v, segs, slot);

	return !s || seg_reach(v, s, off, n) < 0 ? v->fault.code : 0;
}

static int seg_copy(struct rcv_env *v, struct segment *s, const struct tp_copy *m)
{
	uint64_t done = 0;

	if (s->basis_fd < 0)
		return rcv_fail(v, -ERR_PROTOCOL, "copy", "the segment was not opened for it");
	while (done < m->bytes) {
		size_t want = (size_t)MIN(m->bytes - done, (uint64_t)RCV_SCRATCH_BYTES);
		ssize_t n = io_pread_full(s->basis_fd, v->scratch, want, m->from + done);
		int r;

		if (n < 0) {
			errno = (int)-n;
			return rcv_fail_sys(v, "read", "what is to be copied");
		}
		if ((size_t)n < want)
			return rcv_fail(v, -(int)TP_E_MISMATCH, "copy",
					"the file to copy from is too short");
		r = seg_write(v, s, m->off + done, bytes_of(v->scratch, want));
		if (r < 0)
			return r;
		done += want;
	}
	return 0;
}

int rcv_segments_copy(struct rcv_env *v, struct rcv_segments *segs, uint16_t slot,
		      const struct tp_copy *m)
{
	struct segment *s = seg_get(v, segs, slot);
	int r;

	if (!s || seg_reach(v, s, m->off, m->bytes) < 0)
		return v->fault.code;
	if (s->fd < 0)
		return 0;
	r = seg_copy(v, s, m);
	if (r == -ERR_PROTOCOL)
		return r;
	if (r < 0)
		seg_fail(v, s);
	return 0;
}

static int seg_verify(struct rcv_env *v, struct segment *s, uint64_t bytes,
		      const struct tp_hash_value *hash)
{
	struct tp_hash_value got;

	if (s->fd < 0) {
		v->fault = s->fault;
		return v->fault.code;
	}
	if (bytes != s->end - s->off)
		return rcv_fail(v, -ERR_PROTOCOL, "close", "the segment has another length");
	tp_hash_final(s->hash, bytes, &got);
	if (!tp_hash_eq(&got, hash))
		return rcv_fail(v, -(int)TP_E_MISMATCH, "close",
				"the content is not what its hash says");
	return 0;
}

int rcv_segments_close(struct rcv_env *v, struct rcv_segments *segs, uint16_t slot,
		       uint64_t bytes, const struct tp_hash_value *hash)
{
	struct segment *s = seg_get(v, segs, slot);
	int r;

	if (!s)
		return v->fault.code;
	r = seg_verify(v, s, bytes, hash);
	seg_end(segs, slot);
	return r;
}

int rcv_segments_drop(struct rcv_env *v, struct rcv_segments *segs, uint16_t slot)
{
	if (!seg_get(v, segs, slot))
		return v->fault.code;
	seg_end(segs, slot);
	return 0;
}

/* The file has just the size that it shall have. */
static int set_size(struct rcv_env *v, int fd, const char *temp, uint64_t size, bool create)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return rcv_fail_sys(v, "stat", temp);
	if ((uint64_t)st.st_size < size && !create)
		return rcv_fail(v, -(int)TP_E_STALE, "finish", "the temporary file is too short");
	if ((uint64_t)st.st_size != size && ftruncate(fd, (off_t)size) < 0)
		return rcv_fail_sys(v, "set size", temp);
	return 0;
}

int rcv_segments_finish(struct rcv_env *v, const struct tp_entry *m, bool create)
{
	struct rcv_newfile f = RCV_NEWFILE_INIT;
	struct tp_meta meta = m->meta;
	struct rcv_name name, temp;
	struct rcv_obj o;
	int r;

	rcv_name_of(m->name, &name);
	rcv_name_of(m->temp, &temp);
	if (rcv_own_name(v->cur, name.s))
		return rcv_fail(v, -EPERM, "create", TP_OWN_DIR " is not synced");
	r = rcv_temp_open(v, temp.s, create);
	if (r < 0)
		return r;
	f.fd = r;
	f.mode = 0600;
	f.dir = rcv_dir_ref(v->cur);
	meta.flags = 0;
	o = (struct rcv_obj){ .fd = f.fd, .name = name.s };
	r = set_size(v, f.fd, temp.s, m->meta.size, create);
	/* It has taken long to come: it is not thrown away for what the removals will mend. */
	if (r == 0)
		r = rcv_place_free(v, v->cur, name.s);
	if (r == 0)
		r = rcv_meta_settle(v, &o, &meta);
	if (r == 0) {
		memcpy(f.temp, temp.s, TP_TEMP_MAX + 1);
		r = rcv_newfile_place(v, &f, name.s, &m->meta);
	}
	rcv_newfile_drop(&f);
	return r;
}
