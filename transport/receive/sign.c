/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/receive/sign.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "common/io.h"
#include "transport/delta.h"

#define SLICE_BYTES (1u << 20) /* read in one turn */

struct sign {
	struct rcv_job job; /* first */
	struct buf path;    /* of the directory; empty: the root */
	struct rcv_name name;
	uint32_t block_bytes, strong_bytes;
	int fd;
	uint64_t off;
	struct tp_signer *signer;
	struct buf ready; /* not sent yet */
};

static void sign_free(struct rcv_job *job)
{
	struct sign *s = (struct sign *)job;

	if (s->fd >= 0)
		close(s->fd);
	tp_signer_free(s->signer);
	buf_fini(&s->path);
	buf_fini(&s->ready);
	free(s);
}

int rcv_sign_refuse(uint16_t slot, int error, struct buf *out)
{
	uint8_t code[4];

	le32_put(code, (uint32_t)error);
	return tp_frame_put(out, TP_SIG, TP_F_LAST | TP_F_ERROR, slot,
			    bytes_of(code, sizeof(code)));
}

static int sign_begin(struct sign *s, struct rcv_env *v)
{
	_cleanup_close_ int dirfd = -1;
	struct err e = { 0 };
	struct stat st;

	if (s->block_bytes < TP_SIG_BLOCK_MIN || s->block_bytes > TP_SIG_BLOCK_MAX)
		return -EINVAL;
	dirfd = io_open_dir_below(v->rootfd, buf_view(&s->path), O_RDONLY);
	if (dirfd < 0)
		return dirfd;
	s->fd = openat(dirfd, s->name.s,
		       O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (s->fd < 0 || fstat(s->fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	return tp_signer_new(s->block_bytes, s->strong_bytes, &s->signer, &e);
}

/* Read and sign one slice.  1: there is more, 0: that was all, negative: no signature. */
static int sign_slice(struct sign *s, struct rcv_env *v)
{
	struct err e = { 0 };

	for (uint32_t done = 0; done < SLICE_BYTES; done += RCV_SCRATCH_BYTES) {
		ssize_t n = io_pread_full(s->fd, v->scratch, RCV_SCRATCH_BYTES, s->off);
		bool eof = n < (ssize_t)RCV_SCRATCH_BYTES;
		int r;

		if (n < 0)
			return (int)n;
		r = tp_signer_step(s->signer, bytes_of(v->scratch, (size_t)n), eof, &s->ready,
				   &e);
		if (r < 0)
			return r;
		s->off += (uint64_t)n;
		if (eof)
			return 0;
	}
	return 1;
}

static int sign_send(struct sign *s, struct buf *out, bool last)
{
	for (;;) {
		struct bytes all = buf_view(&s->ready);
		struct bytes part = bytes_of(all.p, MIN(all.n, (size_t)TP_DATA_MAX));
		bool end = last && part.n == all.n;
		int r;

		/* Small pieces wait for more to come. */
		if (!last && all.n < TP_DATA_MAX)
			return 0;
		r = tp_frame_put(out, TP_SIG, end ? TP_F_LAST : 0, s->job.slot, part);
		if (r < 0 || end)
			return r;
		buf_consume(&s->ready, part.n);
	}
}

static int sign_step(struct rcv_job *job, struct rcv_env *v, struct buf *out, struct err *e)
{
	struct sign *s = (struct sign *)job;
	int more = s->signer ? 0 : sign_begin(s, v);
	int r;

	if (more == 0)
		more = sign_slice(s, v);
	if (more < 0)
		/* Codes beyond errno's are the library's refusal. */
		r = rcv_sign_refuse(s->job.slot, -more < ERR_USAGE ? -more : EINVAL, out);
	else
		r = sign_send(s, out, more == 0);
	if (r < 0)
		return err_sysn(e, r, "send a signature");
	return more > 0;
}

int rcv_sign_new(uint16_t slot, struct bytes path, const struct tp_sigreq *m,
		 struct rcv_job **ret, struct err *e)
{
	struct sign *s = calloc(1, sizeof(*s));

	if (!s || buf_put_bytes(&s->path, path) < 0) {
		free(s);
		return err_set(e, -ENOMEM, "out of memory");
	}
	rcv_name_of(m->name, &s->name);
	s->block_bytes = m->block_bytes;
	s->strong_bytes = m->strong_bytes;
	s->fd = -1;
	s->job = (struct rcv_job){ .slot = slot,
				   .bytes = sizeof(*s) + path.n,
				   .step = sign_step,
				   .free = sign_free };
	*ret = &s->job;
	return 0;
}
