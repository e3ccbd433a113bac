/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/delta.h"

#include <errno.h>
#include <librsync.h>
#include <pthread.h>

#include "common/io.h"
#include "common/macro.h"

/*
 * Each machine is one librsync job that is fed a piece of input at a time and drained into
 * the caller's buffer until it wants more.
 *
 * librsync copies what it cannot use yet, so input goes in by pieces: small ones keep that
 * copy and its output small, but a piece must not be less than a block, or the copy of a
 * started block would be moved again with every piece.
 */
#define PIECE      (128u << 10)
#define OUT_ROOM   (64u << 10)
#define PATCH_ROOM (128u << 10)

#define SIG_HEAD  12u /* magic, block length, strong length */
#define WEAK      4u
#define SIG_MAGIC RS_RK_BLAKE2_SIG_MAGIC

/*
 * Distinct sums of which an honest signature has as many in one of 2 n buckets: never.  More
 * than a few would make librsync's table a list, searched for each byte of the new file.
 */
#define CHAIN_MAX 64u

/* The one thing that librsync keeps per process: whether it writes to stderr. */
static void quiet_once(void)
{
	rs_trace_set_level(RS_LOG_CRIT);
}

static void quiet(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, quiet_once);
}

static int rs_err(struct err *e, const char *what, rs_result r)
{
	int code = r == RS_MEM_ERROR ? -ENOMEM : -ERR_PROTOCOL;

	return err_set(e, code, "%s: %s", what, rs_strerror(r));
}

/*
 * A job reads all of in, and out takes what comes of it, room bytes at a time and about max
 * in all.  1: max was reached with more to come; 0: input is used up; *ret_done: the job has
 * ended.  in is advanced.
 */
static int job_run(rs_job_t *job, struct bytes *in, bool eof, size_t room, size_t max,
		   struct buf *out, bool *ret_done, rs_result *ret_result)
{
	size_t made = 0;

	*ret_done = false;
	*ret_result = RS_DONE;
	for (;;) {
		rs_buffers_t b = {
			/* librsync has no const, and does not write there. */
			.next_in = (char *)(uintptr_t)in->p,
			.avail_in = in->n,
			.eof_in = eof,
		};
		size_t got;

		if (made >= max)
			return 1;
		b.avail_out = MIN(room, max - made);
		if (buf_reserve(out, b.avail_out) < 0)
			return -ENOMEM;
		b.next_out = (char *)out->p + out->n;
		*ret_result = rs_job_iter(job, &b);
		got = (size_t)(b.next_out - ((char *)out->p + out->n));
		out->n += got;
		made += got;
		*in = bytes_of(b.next_in, b.avail_in);
		if (*ret_result == RS_DONE) {
			*ret_done = true;
			return 0;
		}
		if (*ret_result != RS_BLOCKED)
			return -EIO;
		/* Room that is left says that it waits for input. */
		if (b.avail_out)
			return 0;
	}
}

/* --- signature --- */

/* ceil(log2(n)) for n > 0 */
static uint32_t log2_up(uint64_t n)
{
	uint32_t bits = 0;

	while (bits < 63 && UINT64_C(1) << bits < n)
		bits++;
	return bits;
}

static uint64_t square_root(uint64_t n)
{
	uint64_t root = 0;

	for (uint64_t bit = UINT64_C(1) << 31; bit; bit >>= 1)
		if ((root + bit) * (root + bit) <= n)
			root += bit;
	return root;
}

/*
 * Block: for small files the square root of the size, where signature and literals balance;
 * but not above a page, since files that change in place change by pages, until that gives
 * 262144 blocks, which then is the number of blocks.
 *
 * Strong sum: a new file of N bytes compares at most N positions with B blocks.  The weak
 * sum is credited with 16 of its 32 bits; the strong one has log2(N) + log2(B) + 16 bits, so
 * one file in 2^32 has a false match.  It costs no more than sending that file whole, since
 * the hash of the content tells.
 */
void tp_sig_sizes(uint64_t basis_bytes, uint32_t *ret_block, uint32_t *ret_strong)
{
	uint64_t block = MAX(MIN(square_root(basis_bytes), UINT64_C(4096)),
			     (basis_bytes + 262143) / 262144);
	uint64_t blocks;
	uint32_t strong;

	block = (block + 511) / 512 * 512;
	block = MIN(MAX(block, UINT64_C(1024)), (uint64_t)TP_SIG_BLOCK_MAX);
	blocks = basis_bytes / block + 1;
	strong = (log2_up(basis_bytes + 1) + log2_up(blocks) + 16 + 7) / 8;
	*ret_block = (uint32_t)block;
	*ret_strong = MIN(MAX(strong, TP_SIG_STRONG_MIN), 16u);
}

static bool sizes_ok(uint32_t block_bytes, uint32_t strong_bytes)
{
	return block_bytes >= TP_SIG_BLOCK_MIN && block_bytes <= TP_SIG_BLOCK_MAX &&
	       strong_bytes >= TP_SIG_STRONG_MIN && strong_bytes <= TP_SIG_STRONG_MAX;
}

struct tp_signer {
	rs_job_t *job;
	uint64_t made;
};

int tp_signer_new(uint32_t block_bytes, uint32_t strong_bytes, struct tp_signer **ret,
		  struct err *e)
{
	struct tp_signer *s;

	if (!sizes_ok(block_bytes, strong_bytes))
		return err_set(e, -EINVAL, "no signature has blocks of %u and sums of %u bytes",
			       block_bytes, strong_bytes);
	s = calloc(1, sizeof(*s));
	if (!s)
		return err_set(e, -ENOMEM, "out of memory for a signature");
	quiet();
	s->job = rs_sig_begin(block_bytes, strong_bytes, SIG_MAGIC);
	*ret = s;
	return 0;
}

void tp_signer_free(struct tp_signer *s)
{
	if (!s)
		return;
	rs_job_free(s->job);
	free(s);
}

int tp_signer_step(struct tp_signer *s, struct bytes in, bool eof, struct buf *out,
		   struct err *e)
{
	size_t before = buf_len(out);
	rs_result result;
	bool done;
	int r;

	r = job_run(s->job, &in, eof, OUT_ROOM, SIZE_MAX, out, &done, &result);
	if (r == -ENOMEM)
		return err_set(e, r, "out of memory for a signature");
	if (r < 0)
		return rs_err(e, "make a signature", result);
	s->made += buf_len(out) - before;
	if (s->made > TP_SIG_MAX)
		return err_set(e, -EFBIG, "the signature is more than %u bytes", TP_SIG_MAX);
	return 0;
}

/* --- delta --- */

struct tp_delta {
	rs_signature_t *sig;
	rs_job_t *job;
	size_t piece;
	bool done;
};

static uint32_t be32_get(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

struct sum_key {
	uint32_t bucket;
	uint32_t index;
};

struct sum_table {
	const uint8_t *p;
	size_t each;
};

static int sum_cmp(const struct sum_key *a, const struct sum_key *b, const struct sum_table *t)
{
	return memcmp(t->p + a->index * t->each, t->p + b->index * t->each, t->each);
}

static int key_cmp(const void *a, const void *b, void *table)
{
	const struct sum_key *x = a;
	const struct sum_key *y = b;

	if (x->bucket != y->bucket)
		return x->bucket < y->bucket ? -1 : 1;
	return sum_cmp(x, y, table);
}

/*
 * Blocks that are alike have one entry in librsync's table, and others spread over it.  A
 * signature that was made to crowd them is refused.
 */
static int sums_spread(const uint8_t *p, size_t count, size_t each, struct err *e)
{
	_cleanup_free_ struct sum_key *keys = NULL;
	struct sum_table table = { p, each };
	uint32_t mask = (uint32_t)((UINT64_C(1) << log2_up(2 * (uint64_t)count)) - 1);
	unsigned chain = 0;

	if (count <= CHAIN_MAX)
		return 0;
	keys = calloc(count, sizeof(*keys));
	if (!keys)
		return err_set(e, -ENOMEM, "out of memory for a signature");
	for (size_t i = 0; i < count; i++)
		keys[i] = (struct sum_key){ be32_get(p + i * each) & mask, (uint32_t)i };
	qsort_r(keys, count, sizeof(*keys), key_cmp, &table);
	for (size_t i = 1; i < count; i++) {
		if (keys[i].bucket != keys[i - 1].bucket)
			chain = 0;
		else if (sum_cmp(&keys[i], &keys[i - 1], &table) && ++chain >= CHAIN_MAX)
			return err_set(e, -ERR_PROTOCOL, "the sums of a signature are crowded");
	}
	return 0;
}

/* librsync believes what a signature says of itself. */
static int sig_check(struct bytes sig, struct err *e)
{
	uint32_t block;
	uint32_t strong;

	if (sig.n < SIG_HEAD || sig.n > TP_SIG_MAX)
		return err_set(e, -ERR_PROTOCOL, "a signature of %zu bytes", sig.n);
	block = be32_get(sig.p + 4);
	strong = be32_get(sig.p + 8);
	if (be32_get(sig.p) != SIG_MAGIC || !sizes_ok(block, strong))
		return err_set(e, -ERR_PROTOCOL, "no signature begins like this");
	if ((sig.n - SIG_HEAD) % (WEAK + strong))
		return err_set(e, -ERR_PROTOCOL, "the signature is cut off");
	return sums_spread(sig.p + SIG_HEAD, (sig.n - SIG_HEAD) / (WEAK + strong),
			   WEAK + strong, e);
}

static int sig_load(struct bytes sig, rs_signature_t **ret, struct err *e)
{
	rs_job_t *job = rs_loadsig_begin(ret);
	rs_buffers_t b = {
		.next_in = (char *)(uintptr_t)sig.p,
		.avail_in = sig.n,
		.eof_in = 1,
	};
	rs_result result = rs_job_iter(job, &b);

	rs_job_free(job);
	if (result == RS_DONE)
		result = rs_build_hash_table(*ret);
	if (result == RS_DONE)
		return 0;
	rs_free_sumset(*ret);
	return rs_err(e, "load a signature", result);
}

int tp_delta_new(struct bytes sig, struct tp_delta **ret, struct err *e)
{
	struct tp_delta *d;
	int r;

	r = sig_check(sig, e);
	if (r < 0)
		return r;
	d = calloc(1, sizeof(*d));
	if (!d)
		return err_set(e, -ENOMEM, "out of memory for a delta");
	quiet();
	r = sig_load(sig, &d->sig, e);
	if (r < 0) {
		free(d);
		return r;
	}
	d->piece = MAX((size_t)PIECE, (size_t)be32_get(sig.p + 4) * 2);
	d->job = rs_delta_begin(d->sig);
	*ret = d;
	return 0;
}

void tp_delta_free(struct tp_delta *d)
{
	if (!d)
		return;
	rs_job_free(d->job);
	rs_free_sumset(d->sig);
	free(d);
}

int tp_delta_step(struct tp_delta *d, struct bytes in, bool eof, struct buf *out,
		  struct err *e)
{
	if (d->done)
		return err_set(e, -EINVAL, "the delta has ended");
	do {
		struct bytes piece = bytes_of(in.p, MIN(in.n, d->piece));
		bool last = eof && piece.n == in.n;
		rs_result result;
		int r;

		in = bytes_of(in.p + piece.n, in.n - piece.n);
		r = job_run(d->job, &piece, last, OUT_ROOM, SIZE_MAX, out, &d->done, &result);
		if (r == -ENOMEM)
			return err_set(e, r, "out of memory for a delta");
		if (r < 0)
			return rs_err(e, "make a delta", result);
	} while (in.n);
	return 0;
}

void tp_delta_stats(const struct tp_delta *d, uint64_t *ret_literal, uint64_t *ret_matched)
{
	const rs_stats_t *stats = rs_job_statistics(d->job);

	*ret_literal = (uint64_t)stats->lit_bytes;
	*ret_matched = (uint64_t)stats->copy_bytes;
}

/* --- patch --- */

struct tp_patch {
	rs_job_t *job;
	int basis_fd;
	int error; /* negative: reading the basis failed so */
	bool done;
	struct buf rest; /* delta bytes that came while the output was full */
};

/* librsync's rs_copy_cb: fill *buf with the *len bytes of the basis at pos. */
static rs_result patch_copy(void *arg, rs_long_t pos, size_t *len, void **buf)
{
	struct tp_patch *p = arg;
	ssize_t n = io_pread_full(p->basis_fd, *buf, *len, (uint64_t)pos);

	if (n < 0)
		p->error = (int)n;
	if (n < 0 || (size_t)n < *len)
		return RS_IO_ERROR;
	return RS_DONE;
}

int tp_patch_new(int basis_fd, struct tp_patch **ret, struct err *e)
{
	struct tp_patch *p = calloc(1, sizeof(*p));

	if (!p)
		return err_set(e, -ENOMEM, "out of memory for a patch");
	quiet();
	p->basis_fd = basis_fd;
	p->job = rs_patch_begin(patch_copy, p);
	*ret = p;
	return 0;
}

void tp_patch_free(struct tp_patch *p)
{
	if (!p)
		return;
	rs_job_free(p->job);
	buf_fini(&p->rest);
	free(p);
}

static int patch_err(const struct tp_patch *p, rs_result result, struct err *e)
{
	if (p->error && p->error != -EINVAL)
		return err_sysn(e, p->error, "read the basis of a delta");
	if (result == RS_IO_ERROR)
		return err_set(e, -ERR_PROTOCOL, "a delta refers to what its basis has not");
	return rs_err(e, "apply a delta", result);
}

int tp_patch_step(struct tp_patch *p, struct bytes in, struct buf *out, bool *ret_done,
		  struct err *e)
{
	bool held = buf_len(&p->rest) > 0;
	struct bytes left = in;
	rs_result result = RS_DONE;
	int r = 0;

	if (held) {
		if (buf_put_bytes(&p->rest, in) < 0)
			return err_set(e, -ENOMEM, "out of memory for a patch");
		left = buf_view(&p->rest);
	}
	if (!p->done)
		r = job_run(p->job, &left, false, PATCH_ROOM, TP_PATCH_OUT, out, &p->done,
			    &result);
	if (r == -ENOMEM)
		return err_set(e, r, "out of memory for a patch");
	if (r < 0)
		return patch_err(p, result, e);
	if (p->done && left.n)
		return err_set(e, -ERR_PROTOCOL, "%zu bytes after the end of a delta", left.n);
	if (held)
		buf_consume(&p->rest, buf_len(&p->rest) - left.n);
	else if (buf_put_bytes(&p->rest, left) < 0)
		return err_set(e, -ENOMEM, "out of memory for a patch");
	*ret_done = p->done;
	return r;
}
