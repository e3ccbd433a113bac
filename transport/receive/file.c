/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A file is built under no name and hashed as it grows.  What breaks the growing order of
 * offsets makes the hash be taken from the file itself at the end.
 */
#include "transport/receive/file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "common/io.h"
#include "transport/delta.h"
#include "transport/hash.h"
#include "transport/receive/place.h"

struct slot {
	struct rcv_newfile file;
	struct rcv_name name;
	struct tp_meta meta; /* xattrs point into kept */
	struct buf kept;
	struct tp_hash *hash;
	uint64_t end;        /* of the bytes written so far */
	bool sized;          /* it has the size of its metadata already */
	bool rehash;         /* hash does not cover what is in the file */
	int basis_fd;
	struct tp_patch *patch;
	bool patch_done;
	uint64_t delta_bytes; /* that came so far */
	struct rcv_fault *fault; /* what went wrong; the rest of the frames is swallowed */
};

struct rcv_files {
	unsigned open;
	struct slot *slots[TP_SLOT_MAX];
};

int rcv_file_whole(struct rcv_env *v, const struct tp_entry *m)
{
	struct rcv_newfile f = RCV_NEWFILE_INIT;
	struct rcv_name name;
	int r;

	rcv_name_of(m->name, &name);
	r = rcv_newfile_open(v, v->cur, &m->meta, O_WRONLY, &f);
	if (r < 0)
		return r;
	r = io_write_all(f.fd, m->content.p, m->content.n);
	if (r < 0) {
		errno = -r;
		rcv_fail_sys(v, "write", name.s);
	} else {
		r = rcv_newfile_meta(v, &f, name.s, &m->meta);
	}
	if (r == 0)
		r = rcv_newfile_place(v, &f, name.s, &m->meta);
	rcv_newfile_drop(&f);
	return r;
}

int rcv_files_new(struct rcv_files **ret, struct err *e)
{
	struct rcv_files *files = calloc(1, sizeof(*files));

	if (!files)
		return err_set(e, -ENOMEM, "out of memory");
	*ret = files;
	return 0;
}

static void slot_free(struct slot *s)
{
	if (!s)
		return;
	rcv_newfile_drop(&s->file);
	buf_fini(&s->kept);
	tp_hash_free(s->hash);
	tp_patch_free(s->patch);
	if (s->basis_fd >= 0)
		close(s->basis_fd);
	free(s->fault);
	free(s);
}

static void slot_end(struct rcv_files *files, uint16_t slot)
{
	slot_free(TAKE_PTR(files->slots[slot]));
	files->open--;
}

void rcv_files_free(struct rcv_files *files)
{
	if (!files)
		return;
	for (size_t i = 0; i < TP_SLOT_MAX; i++)
		slot_free(files->slots[i]);
	free(files);
}

bool rcv_files_busy(const struct rcv_files *files, uint16_t slot)
{
	return slot < TP_SLOT_MAX && files->slots[slot];
}

/* Keep v->fault (or f) for the CLOSE, and let go of what is useless from now on. */
static void slot_fail(struct slot *s, const struct rcv_fault *f)
{
	rcv_newfile_drop(&s->file);
	s->fault = malloc(sizeof(*s->fault));
	if (s->fault)
		*s->fault = *f;
}

static bool slot_failed(const struct slot *s)
{
	return s->file.fd < 0;
}

/* NULL, and v->fault is -ERR_PROTOCOL: the peer names a slot that is not open. */
static struct slot *slot_get(struct rcv_env *v, struct rcv_files *files, uint16_t slot)
{
	if (rcv_files_busy(files, slot))
		return files->slots[slot];
	rcv_fail(v, -ERR_PROTOCOL, "slot", "slot %u is not open", slot);
	return NULL;
}

/* Metadata outlives its frame. */
static int slot_keep_meta(struct rcv_env *v, struct slot *s, const struct tp_entry *m)
{
	struct err e = { 0 };

	rcv_name_of(m->name, &s->name);
	s->meta = m->meta;
	s->meta.target = bytes_of(NULL, 0);
	if (buf_put_bytes(&s->kept, m->meta.xattrs) < 0)
		return rcv_fail(v, -ENOMEM, "open", "out of memory");
	s->meta.xattrs = buf_view(&s->kept);
	if (tp_hash_new(&s->hash, &e) < 0)
		return rcv_fail(v, -ENOMEM, "open", "%s", e.text);
	return 0;
}

static int slot_basis(struct rcv_env *v, struct slot *s)
{
	struct err e = { 0 };
	struct stat st;

	s->basis_fd = openat(v->cur->fd, s->name.s,
			     O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (s->basis_fd < 0 || fstat(s->basis_fd, &st) < 0 || !S_ISREG(st.st_mode))
		return rcv_fail(v, -(int)TP_E_MISMATCH, "delta", "there is no file to start from");
	if (tp_patch_new(s->basis_fd, &s->patch, &e) < 0)
		return rcv_fail(v, -ENOMEM, "delta", "%s", e.text);
	return 0;
}

static int slot_begin(struct rcv_env *v, struct slot *s, const struct tp_entry *m, bool basis)
{
	int r;

	if (!v->cur) {
		v->fault = v->cur_fault;
		return v->fault.code;
	}
	r = slot_keep_meta(v, s, m);
	if (r == 0 && rcv_own_name(v->cur, s->name.s))
		r = rcv_fail(v, -EPERM, "create", TP_OWN_DIR " is not synced");
	if (r == 0 && basis)
		r = slot_basis(v, s);
	if (r < 0)
		return r;
	r = rcv_newfile_open(v, v->cur, &s->meta, O_RDWR, &s->file);
	if (rcv_dir_lost(v->cur, r)) {
		r = rcv_dir_renew(v, &v->cur);
		if (r == 0)
			r = rcv_newfile_open(v, v->cur, &s->meta, O_RDWR, &s->file);
	}
	return r;
}

int rcv_files_open(struct rcv_env *v, struct rcv_files *files, uint16_t slot,
		   const struct tp_entry *m, bool basis)
{
	struct slot *s;

	if (slot >= TP_SLOT_MAX || files->slots[slot])
		return rcv_fail(v, -ERR_PROTOCOL, "slot", "slot %u is in use or too high", slot);
	if (files->open >= RCV_OPEN_MAX)
		return rcv_fail(v, -ERR_PROTOCOL, "slot", "more than %u files are open",
				RCV_OPEN_MAX);
	s = calloc(1, sizeof(*s));
	if (!s)
		return rcv_fail(v, -ENOMEM, "open", "out of memory");
	s->file = RCV_NEWFILE_INIT;
	s->basis_fd = -1;
	files->slots[slot] = s;
	files->open++;
	if (slot_begin(v, s, m, basis) < 0)
		slot_fail(s, &v->fault);
	return 0;
}

static int slot_write(struct rcv_env *v, struct slot *s, uint64_t off, struct bytes data)
{
	int r;

	if (off > INT64_MAX - data.n)
		return rcv_fail(v, -EFBIG, "write", "an offset beyond what a file can have");
	r = io_pwrite_all(s->file.fd, data.p, data.n, off);
	if (r == 0)
		return 0;
	errno = -r;
	return rcv_fail_sys(v, "write", s->name.s);
}

/*
 * The first hole: nothing is written yet from s->end on.  XFS allocates ahead of writes that
 * make a file grow, and when the file then goes on beyond a hole that stays allocated.  So
 * give it back, and let the file not grow any more.  Where this fails, nothing but a hole is
 * lost.
 */
static void slot_leave_hole(struct slot *s, uint64_t size)
{
	s->sized = true;
	if (size <= s->end || size > INT64_MAX || ftruncate(s->file.fd, (off_t)size) < 0)
		return;
	(void)!fallocate(s->file.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			 (off_t)s->end, (off_t)(size - s->end));
}

/* Bytes that the hash has not seen out of order are hashed as they pass. */
static int slot_append(struct rcv_env *v, struct slot *s, uint64_t off, struct bytes data)
{
	int r;

	if (off > s->end && !s->sized)
		slot_leave_hole(s, s->meta.size);
	r = slot_write(v, s, off, data);
	if (r < 0)
		return r;
	if (off < s->end)
		s->rehash = true;
	if (!s->rehash)
		tp_hash_update(s->hash, off, data.p, data.n);
	s->end = MAX(s->end, off + data.n);
	return 0;
}

int rcv_files_data(struct rcv_env *v, struct rcv_files *files, uint16_t slot, uint64_t off,
		   struct bytes data)
{
	struct slot *s = slot_get(v, files, slot);

	if (!s)
		return v->fault.code;
	if (!slot_failed(s) && slot_append(v, s, off, data) < 0)
		slot_fail(s, &v->fault);
	return 0;
}

static bool all_zero(const uint8_t *p, size_t n)
{
	return n == 0 || (p[0] == 0 && !memcmp(p, p + 1, n - 1));
}

/* Is there anything but zeros in [off, to)?  1, 0 or -errno. */
static int run_matters(struct rcv_env *v, const struct slot *s, uint64_t off, uint64_t to)
{
	while (off < to) {
		size_t want = (size_t)MIN(to - off, (uint64_t)RCV_SCRATCH_BYTES);
		ssize_t n = io_pread_full(s->file.fd, v->scratch, want, off);

		if (n < 0) {
			errno = (int)-n;
			return rcv_fail_sys(v, "read", s->name.s);
		}
		if (n == 0)
			return 0;
		if (!all_zero(v->scratch, (size_t)n))
			return 1;
		off += (uint64_t)n;
	}
	return 0;
}

/* The same, and what is a hole already is not read: it can be as long as an offset goes. */
static int hole_matters(struct rcv_env *v, const struct slot *s, uint64_t off, uint64_t to)
{
	while (off < to) {
		uint64_t from, end;
		int r = tp_next_data(s->file.fd, off, s->end, &from, &end);

		if (r < 0) {
			errno = -r;
			return rcv_fail_sys(v, "read", s->name.s);
		}
		if (from >= to)
			return 0;
		r = run_matters(v, s, from, MIN(end, to));
		if (r != 0)
			return r;
		off = end;
	}
	return 0;
}

int rcv_write_zeros(struct rcv_env *v, int fd, const char *name, uint64_t off, uint64_t to)
{
	memset(v->scratch, 0, RCV_SCRATCH_BYTES);
	while (off < to) {
		size_t n = (size_t)MIN(to - off, (uint64_t)RCV_SCRATCH_BYTES);
		int r = io_pwrite_all(fd, v->scratch, n, off);

		if (r < 0) {
			errno = -r;
			return rcv_fail_sys(v, "write", name);
		}
		off += n;
	}
	return 0;
}

static int slot_punch(struct rcv_env *v, struct slot *s, uint64_t off, uint64_t n)
{
	uint64_t to;
	int matters;

	if (n > INT64_MAX || off > INT64_MAX - n)
		return rcv_fail(v, -EFBIG, "punch hole", "beyond what a file can have");
	/* Beyond what was written there is nothing but hole. */
	to = MIN(off + n, s->end);
	if (off >= to)
		return 0;
	matters = s->rehash ? 1 : hole_matters(v, s, off, to);
	if (matters < 0)
		return matters;
	if (matters)
		s->rehash = true;
	if (fallocate(s->file.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)off,
		      (off_t)n) == 0)
		return 0;
	if (errno != EOPNOTSUPP && errno != ENOSYS)
		return rcv_fail_sys(v, "punch hole", s->name.s);
	return matters ? rcv_write_zeros(v, s->file.fd, s->name.s, off, to) : 0;
}

int rcv_files_hole(struct rcv_env *v, struct rcv_files *files, uint16_t slot, uint64_t off,
		   uint64_t n)
{
	struct slot *s = slot_get(v, files, slot);

	if (!s)
		return v->fault.code;
	if (!slot_failed(s) && slot_punch(v, s, off, n) < 0)
		slot_fail(s, &v->fault);
	return 0;
}

static int slot_patch(struct rcv_env *v, struct slot *s, struct bytes in)
{
	struct buf out = BUF_INIT;
	struct err e = { 0 };
	bool calm = false;
	int more, r = 0;

	if (!s->patch)
		return rcv_fail(v, -(int)TP_E_MISMATCH, "delta", "the file was not opened for it");
	if (s->patch_done && in.n)
		return rcv_fail(v, -(int)TP_E_MISMATCH, "delta", "it goes on after its end");
	s->delta_bytes += in.n;
	do {
		more = tp_patch_step(s->patch, in, &out, &s->patch_done, &e);
		if (more < 0) {
			r = rcv_fail(v, -(int)TP_E_MISMATCH, "delta", "%s", e.text);
			break;
		}
		/* A file that grew since it was announced brings what is new in the delta. */
		if (s->end + buf_len(&out) > s->meta.size + s->delta_bytes) {
			r = rcv_fail(v, -(int)TP_E_MISMATCH, "delta",
				     "it makes more than the size that was announced");
			break;
		}
		r = slot_append(v, s, s->end, buf_view(&out));
		buf_clear(&out);
		in = bytes_of(NULL, 0);
		/* A few bytes of delta can copy gigabytes. */
		if (more && !calm) {
			rcv_calm(v);
			calm = true;
		}
	} while (more && r == 0);
	buf_fini(&out);
	return r;
}

int rcv_files_delta(struct rcv_env *v, struct rcv_files *files, uint16_t slot,
		    struct bytes delta)
{
	struct slot *s = slot_get(v, files, slot);

	if (!s)
		return v->fault.code;
	if (!slot_failed(s) && slot_patch(v, s, delta) < 0)
		slot_fail(s, &v->fault);
	return 0;
}

static int slot_verify(struct rcv_env *v, struct slot *s, uint64_t size,
		       const struct tp_hash_value *hash)
{
	struct tp_hash_value got;
	struct err e = { 0 };
	uint64_t found = size;

	if (s->patch && !s->patch_done)
		return rcv_fail(v, -(int)TP_E_MISMATCH, "delta", "it has no end");
	if (s->end > size)
		return rcv_fail(v, -(int)TP_E_MISMATCH, "close",
				"more content than the size tells");
	if (s->end < size && !s->sized)
		slot_leave_hole(s, size);
	if ((s->end < size || s->sized) && ftruncate(s->file.fd, (off_t)size) < 0)
		return rcv_fail_sys(v, "set size", s->name.s);
	if (s->rehash) {
		rcv_calm(v);
		if (tp_hash_fd(v->hash, s->file.fd, v->scratch, RCV_SCRATCH_BYTES, &found, &got,
			       &e) < 0)
			return rcv_fail(v, e.code, "read", "%s", e.text);
	} else {
		tp_hash_final(s->hash, size, &got);
	}
	if (found != size || memcmp(&got, hash, sizeof(got)) != 0)
		return rcv_fail(v, -(int)TP_E_MISMATCH, "close",
				"the content is not what its hash says");
	return 0;
}

static int slot_finish(struct rcv_env *v, struct slot *s, uint64_t size,
		       const struct tp_hash_value *hash)
{
	int r;

	if (slot_failed(s)) {
		if (!s->fault)
			return rcv_fail(v, -ENOMEM, "close", "out of memory");
		v->fault = *s->fault;
		return v->fault.code;
	}
	if (size > INT64_MAX)
		return rcv_fail(v, -EFBIG, "close", "a size beyond what a file can have");
	r = slot_verify(v, s, size, hash);
	if (r == 0)
		r = rcv_newfile_meta(v, &s->file, s->name.s, &s->meta);
	if (r == 0)
		r = rcv_newfile_place(v, &s->file, s->name.s, &s->meta);
	return r;
}

int rcv_files_close(struct rcv_env *v, struct rcv_files *files, uint16_t slot, uint64_t size,
		    const struct tp_hash_value *hash)
{
	struct slot *s = slot_get(v, files, slot);
	int r;

	if (!s)
		return v->fault.code;
	r = slot_finish(v, s, size, hash);
	slot_end(files, slot);
	return r;
}

int rcv_files_drop(struct rcv_env *v, struct rcv_files *files, uint16_t slot)
{
	if (!slot_get(v, files, slot))
		return v->fault.code;
	slot_end(files, slot);
	return 0;
}
