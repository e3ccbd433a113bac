/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/receive/range.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "common/io.h"
#include "transport/blocks.h"
#include "transport/hash.h"

#define SLICE_BYTES (1u << 20) /* read in one turn */

struct range {
	struct rcv_job job; /* first */
	struct buf path;    /* of the directory; empty: the root */
	struct rcv_name name;
	int fd;             /* -1: not open yet */
	uint64_t off, end, at;
	struct tp_hash *hash; /* of a hash */
	/* of sums: */
	uint32_t block;       /* 0: it is a hash */
	uint64_t size;        /* that the file must have */
	uint8_t *data;        /* some blocks */
	struct buf sums;
};

static void range_free(struct rcv_job *job)
{
	struct range *s = (struct range *)job;

	if (s->fd >= 0)
		close(s->fd);
	tp_hash_free(s->hash);
	free(s->data);
	buf_fini(&s->sums);
	buf_fini(&s->path);
	free(s);
}

int rcv_range_refuse(uint16_t slot, bool sums, int error, struct buf *out)
{
	return sums ? tp_put_sums(out, slot, (uint32_t)error, bytes_of(NULL, 0)) :
		      tp_put_hashed(out, slot, (uint32_t)error, NULL);
}

/* Whole blocks, as many as a slice has, or one. */
static size_t data_bytes(const struct range *s)
{
	return MAX(s->block, SLICE_BYTES);
}

static int range_begin(struct range *s, struct rcv_env *v)
{
	_cleanup_close_ int dirfd = -1;
	struct err e = { 0 };
	struct stat st;

	dirfd = io_open_dir_below(v->rootfd, buf_view(&s->path), O_RDONLY);
	if (dirfd < 0)
		return dirfd;
	s->fd = openat(dirfd, s->name.s,
		       O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (s->fd < 0 || fstat(s->fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	if (!s->block)
		return tp_hash_new(&s->hash, &e);
	/* Another file by now: the driver has sums of no use. */
	if ((uint64_t)st.st_size != s->size)
		return -ESTALE;
	s->data = malloc(data_bytes(s));
	return s->data ? 0 : -ENOMEM;
}

/* Read and sum one slice.  1: there is more, 0: that was all, negative: no answer. */
static int sums_slice(struct range *s)
{
	size_t want = (size_t)MIN(s->end - s->at, (uint64_t)data_bytes(s));
	ssize_t n = io_pread_full(s->fd, s->data, want, s->at);

	if (n < 0)
		return (int)n;
	if ((size_t)n < want)
		return -ESTALE;
	s->at += want;
	if (tp_sums_make(bytes_of(s->data, want), s->block, &s->sums) < 0)
		return -ENOMEM;
	return s->at < s->end;
}

/* Read and hash one slice.  1: there is more, 0: that was all, negative: no answer. */
static int hash_slice(struct range *s, struct rcv_env *v)
{
	uint64_t stop = s->at + SLICE_BYTES;

	while (s->at < s->end && s->at < stop) {
		uint64_t from, to;
		ssize_t n = 0;
		int r = tp_next_data(s->fd, s->at, s->end, &from, &to);

		if (r < 0)
			return r;
		if (from < to)
			n = io_pread_full(s->fd, v->scratch,
					  (size_t)MIN(to - from, (uint64_t)RCV_SCRATCH_BYTES),
					  from);
		if (n < 0)
			return (int)n;
		tp_hash_update(s->hash, from - s->off, v->scratch, (size_t)n);
		/* Beyond the end of the file is a hole, too. */
		s->at = n ? from + (uint64_t)n : s->end;
	}
	return s->at < s->end;
}

static int range_step(struct rcv_job *job, struct rcv_env *v, struct buf *out, struct err *e)
{
	struct range *s = (struct range *)job;
	int more = s->fd >= 0 ? 0 : range_begin(s, v);
	struct tp_hash_value hash;
	int r = 0;

	if (more == 0)
		more = s->block ? sums_slice(s) : hash_slice(s, v);
	if (more < 0) {
		r = rcv_range_refuse(s->job.slot, s->block != 0, -more, out);
	} else if (more == 0 && s->block) {
		r = tp_put_sums(out, s->job.slot, 0, buf_view(&s->sums));
	} else if (more == 0) {
		tp_hash_final(s->hash, s->end - s->off, &hash);
		r = tp_put_hashed(out, s->job.slot, 0, &hash);
	}
	if (r < 0)
		return err_sysn(e, r, "send what is in a file");
	return more > 0;
}

int rcv_range_new(uint16_t slot, struct bytes path, const struct tp_range *m,
		  struct rcv_job **ret, struct err *e)
{
	struct range *s = calloc(1, sizeof(*s));

	if (!s || buf_put_bytes(&s->path, path) < 0) {
		free(s);
		return err_set(e, -ENOMEM, "out of memory");
	}
	rcv_name_of(m->name, &s->name);
	s->fd = -1;
	s->off = s->at = m->off;
	s->end = m->off + m->bytes;
	s->block = m->block;
	s->size = m->size;
	s->job = (struct rcv_job){ .slot = slot,
				   .bytes = sizeof(*s) + path.n +
					    (s->block ? data_bytes(s) : 0),
				   .step = range_step,
				   .free = range_free };
	*ret = &s->job;
	return 0;
}
