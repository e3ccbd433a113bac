/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/hash.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "common/buf.h"
#include "common/io.h"
#include "common/macro.h"

/*
 * Whole blocks are looked at where they lie: the zero test decides on the first word nearly
 * always, and everything between two zero blocks goes to XXH3 in one call.  Only a block
 * that is split over calls is gathered in part[].
 */
struct tp_hash {
	XXH3_state_t *xxh;  /* of the leaf */
	XXH3_state_t *tree; /* of the leaves before it */
	uint64_t leaf;      /* the index of the leaf at work; offsets below are from its start */
	bool begun;       /* run_end is valid */
	uint64_t run_end; /* where a block continues the run before it */
	uint64_t part_off;
	size_t part_n; /* bytes in part[], 0: no block is split */
	uint8_t part[TP_HASH_BLOCK];
};

/* Below this a read costs less than asking for its holes. */
#define SEEK_WORTH 65536u

int tp_hash_new(struct tp_hash **ret, struct err *e)
{
	struct tp_hash *h = calloc(1, sizeof(*h));

	if (h) {
		h->xxh = XXH3_createState();
		h->tree = XXH3_createState();
	}
	if (!h || !h->xxh || !h->tree) {
		tp_hash_free(h);
		return err_set(e, -ENOMEM, "out of memory for a content hash");
	}
	tp_hash_reset(h);
	*ret = h;
	return 0;
}

void tp_hash_free(struct tp_hash *h)
{
	if (!h)
		return;
	XXH3_freeState(h->xxh);
	XXH3_freeState(h->tree);
	free(h);
}

static void reset_leaf(struct tp_hash *h, uint64_t leaf)
{
	XXH3_128bits_reset(h->xxh);
	h->leaf = leaf;
	h->begun = false;
	h->part_n = 0;
}

void tp_hash_reset(struct tp_hash *h)
{
	reset_leaf(h, 0);
	XXH3_128bits_reset(h->tree);
}

static bool all_zero(const uint8_t *p, size_t n)
{
	uint64_t word;

	if (n >= sizeof(word)) {
		memcpy(&word, p, sizeof(word));
		if (word)
			return false;
	}
	/* All bytes are zero when the first is, and each is like the one before it. */
	return n == 0 || (p[0] == 0 && memcmp(p, p + 1, n - 1) == 0);
}

static void hash_le64(XXH3_state_t *xxh, uint64_t v)
{
	uint8_t t[8];

	le64_put(t, v);
	XXH3_128bits_update(xxh, t, sizeof(t));
}

static void digest(const XXH3_state_t *xxh, struct tp_hash_value *ret)
{
	XXH128_canonical_t value;

	XXH128_canonicalFromHash(&value, XXH3_128bits_digest(xxh));
	memcpy(ret->b, value.digest, sizeof(ret->b));
}

static void hash_run(struct tp_hash *h, uint64_t off, const uint8_t *p, size_t n)
{
	if (!h->begun || h->run_end != off)
		hash_le64(h->xxh, off);
	XXH3_128bits_update(h->xxh, p, n);
	h->begun = true;
	h->run_end = off + n;
}

/* Whole blocks, and at the end of the file a short one. */
static void hash_blocks(struct tp_hash *h, uint64_t off, const uint8_t *p, size_t n)
{
	size_t from = 0; /* of the run that is being looked for */
	size_t at;

	for (at = 0; at < n; at += TP_HASH_BLOCK) {
		if (!all_zero(p + at, MIN(n - at, (size_t)TP_HASH_BLOCK)))
			continue;
		if (at > from)
			hash_run(h, off + from, p + from, at - from);
		from = at + TP_HASH_BLOCK;
	}
	if (n > from)
		hash_run(h, off + from, p + from, n - from);
}

/* The gathered block is n bytes long; what was not said of it is zero. */
static void hash_part(struct tp_hash *h, size_t n)
{
	if (n > h->part_n)
		memset(h->part + h->part_n, 0, n - h->part_n);
	hash_blocks(h, h->part_off, h->part, MAX(n, h->part_n));
	h->part_n = 0;
}

/* Take what belongs to the block that off is inside of; the count taken. */
static size_t gather(struct tp_hash *h, uint64_t off, const uint8_t *p, size_t n)
{
	size_t at = off % TP_HASH_BLOCK;
	size_t take = MIN(n, TP_HASH_BLOCK - at);

	h->part_off = off - at;
	if (at > h->part_n)
		memset(h->part + h->part_n, 0, at - h->part_n);
	memcpy(h->part + at, p, take);
	h->part_n = at + take;
	if (h->part_n == TP_HASH_BLOCK)
		hash_part(h, TP_HASH_BLOCK);
	return take;
}

/* Within one leaf; off from its start. */
static void update_leaf(struct tp_hash *h, uint64_t off, const uint8_t *p, size_t n)
{
	size_t whole;
	size_t took;

	if (h->part_n && off - h->part_off >= TP_HASH_BLOCK)
		hash_part(h, TP_HASH_BLOCK);
	if (off % TP_HASH_BLOCK) {
		took = gather(h, off, p, n);
		off += took;
		p += took;
		n -= took;
	}
	whole = n - n % TP_HASH_BLOCK;
	hash_blocks(h, off, p, whole);
	if (n > whole)
		gather(h, off + whole, p + whole, n - whole);
}

/* The leaf at work has n bytes and is complete. */
static void final_leaf(struct tp_hash *h, uint64_t n, struct tp_hash_value *ret)
{
	if (h->part_n) {
		uint64_t rest = n > h->part_off ? n - h->part_off : 0;

		hash_part(h, (size_t)MIN(rest, (uint64_t)TP_HASH_BLOCK));
	}
	hash_le64(h->xxh, n);
	digest(h->xxh, ret);
}

void tp_hash_leaf(struct tp_hash *h, uint64_t index, const struct tp_hash_value *leaf)
{
	hash_le64(h->tree, index);
	XXH3_128bits_update(h->tree, leaf->b, sizeof(leaf->b));
}

/* Into the tree with the leaf at work, unless it is all zero. */
static void end_leaf(struct tp_hash *h, uint64_t n)
{
	struct tp_hash_value leaf;

	final_leaf(h, n, &leaf);
	if (h->begun)
		tp_hash_leaf(h, h->leaf, &leaf);
}

void tp_hash_update(struct tp_hash *h, uint64_t off, const void *data, size_t n)
{
	const uint8_t *p = data;

	while (n) {
		uint64_t leaf = off / TP_LEAF_BYTES;
		uint64_t at = off % TP_LEAF_BYTES;
		size_t take = (size_t)MIN((uint64_t)n, TP_LEAF_BYTES - at);

		if (leaf != h->leaf) {
			end_leaf(h, TP_LEAF_BYTES);
			reset_leaf(h, leaf);
		}
		update_leaf(h, at, p, take);
		off += take;
		p += take;
		n -= take;
	}
}

void tp_hash_root(struct tp_hash *h, uint64_t size, struct tp_hash_value *ret)
{
	hash_le64(h->tree, size);
	digest(h->tree, ret);
}

void tp_hash_final(struct tp_hash *h, uint64_t size, struct tp_hash_value *ret)
{
	uint64_t off = h->leaf * TP_LEAF_BYTES;

	if (size <= TP_LEAF_BYTES && !h->leaf) {
		final_leaf(h, size, ret);
		return;
	}
	end_leaf(h, size > off ? MIN(size - off, (uint64_t)TP_LEAF_BYTES) : 0);
	tp_hash_root(h, size, ret);
}

void tp_hash_zeros(struct tp_hash *h, uint64_t n, struct tp_hash_value *ret)
{
	tp_hash_reset(h);
	tp_hash_final(h, n, ret);
}

uint64_t tp_hash64(const void *p, size_t n)
{
	return XXH3_64bits(p, n);
}

void tp_hash_content(struct tp_hash *h, const void *p, size_t n, struct tp_hash_value *ret)
{
	tp_hash_reset(h);
	tp_hash_update(h, 0, p, n);
	tp_hash_final(h, n, ret);
}

int tp_hash_zeros_of(uint64_t n, struct tp_hash_value *ret, struct err *e)
{
	struct tp_hash *h;
	int r = tp_hash_new(&h, e);

	if (r < 0)
		return r;
	tp_hash_zeros(h, n, ret);
	tp_hash_free(h);
	return 0;
}

/* Hash [from, to) of fd; less when the file ends before.  Bytes hashed, or -errno. */
static int64_t hash_extent(struct tp_hash *h, int fd, void *buf, size_t buf_bytes,
			   uint64_t from, uint64_t to)
{
	uint64_t off = from;

	while (off < to) {
		size_t want = (size_t)MIN((uint64_t)buf_bytes, to - off);
		ssize_t got = io_pread_full(fd, buf, want, off);

		if (got < 0)
			return got;
		tp_hash_update(h, off, buf, (size_t)got);
		off += (size_t)got;
		if ((size_t)got < want)
			break;
	}
	return (int64_t)(off - from);
}

int tp_hash_fd(struct tp_hash *h, int fd, void *buf, size_t buf_bytes, uint64_t *ret_size,
	       struct tp_hash_value *ret, struct err *e)
{
	uint64_t off = 0;
	uint64_t size = 0;
	bool moved = true;
	struct stat st;

	tp_hash_reset(h);
	/* The file may grow or shrink meanwhile: the end is where a new look finds it. */
	for (;;) {
		uint64_t begin = off;
		uint64_t from;
		uint64_t to;
		int64_t got;
		int r;

		if (fstat(fd, &st) < 0)
			return err_sys(e, "stat");
		size = (uint64_t)st.st_size;
		if (off >= size || !moved)
			break;
		do {
			from = off;
			to = size;
			if (size - off > SEEK_WORTH) {
				r = tp_next_data(fd, off, size, &from, &to);
				if (r < 0)
					return err_sysn(e, r, "look for data");
			}
			got = hash_extent(h, fd, buf, buf_bytes, from, to);
			if (got < 0)
				return err_sysn(e, (int)got, "read");
			off = from + (uint64_t)got;
		} while (off == to && off < size);
		moved = off > begin;
	}
	tp_hash_final(h, size, ret);
	*ret_size = size;
	return 0;
}

int tp_next_data(int fd, uint64_t off, uint64_t size, uint64_t *ret_from, uint64_t *ret_to)
{
	off_t data;
	off_t hole;

	*ret_from = *ret_to = size;
	if (off >= size)
		return 0;
	data = lseek(fd, (off_t)off, SEEK_DATA);
	if (data < 0 && errno == ENXIO)
		return 0;
	if (data < 0 && (errno == EINVAL || errno == EOPNOTSUPP)) {
		*ret_from = off;
		return 0;
	}
	if (data < 0)
		return -errno;
	if ((uint64_t)data >= size)
		return 0;
	*ret_from = (uint64_t)data;
	/* Without an answer the rest is one run: reading it tells the truth. */
	hole = lseek(fd, data, SEEK_HOLE);
	if (hole > data && (uint64_t)hole < size)
		*ret_to = (uint64_t)hole;
	return 0;
}

int tp_hole_bytes(int fd, uint64_t size, uint64_t *ret_bytes, uint32_t *ret_runs)
{
	uint64_t bytes = 0, at = 0;
	uint32_t runs = 0;

	while (at < size) {
		uint64_t first = (at + TP_HASH_BLOCK - 1) / TP_HASH_BLOCK;
		uint64_t from;
		uint64_t to;
		int r = tp_next_data(fd, at, size, &from, &to);

		if (r < 0)
			return r;
		if (from / TP_HASH_BLOCK > first) {
			bytes += (from / TP_HASH_BLOCK - first) * TP_HASH_BLOCK;
			runs++;
		}
		at = to;
	}
	*ret_bytes = bytes;
	*ret_runs = runs;
	return 0;
}
