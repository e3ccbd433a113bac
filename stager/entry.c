/* SPDX-License-Identifier: Apache-2.0 */
#include "stager/entry.h"

#include <errno.h>
#include <linux/fs.h>

#include "common/buf.h"

const char *stg_name_z(char out[NAME_MAX + 1], struct bytes name)
{
	size_t n = MIN(name.n, (size_t)NAME_MAX);

	memcpy(out, name.p, n);
	out[n] = '\0';
	return out;
}

uint64_t stg_dev_of(const struct statx *stx)
{
	return (uint64_t)stx->stx_dev_major << 32 | stx->stx_dev_minor;
}

void stg_stat_from_statx(const struct statx *stx, struct stg_stat *ret)
{
	*ret = (struct stg_stat){
		.mode = stx->stx_mode,
		.uid = stx->stx_uid,
		.gid = stx->stx_gid,
		.size = S_ISREG(stx->stx_mode) ? stx->stx_size : 0,
		.mtime_s = stx->stx_mtime.tv_sec,
		.mtime_ns = stx->stx_mtime.tv_nsec,
		.ctime_s = stx->stx_ctime.tv_sec,
		.ctime_ns = stx->stx_ctime.tv_nsec,
		.ino = stx->stx_ino,
		.dev = stg_dev_of(stx),
		.nlink = stx->stx_nlink,
		.bytes_on_disk = S_ISREG(stx->stx_mode) ? stx->stx_blocks * 512 : 0,
	};
	if (S_ISCHR(stx->stx_mode) || S_ISBLK(stx->stx_mode))
		ret->rdev = (uint64_t)stx->stx_rdev_major << 32 | stx->stx_rdev_minor;
	if (stx->stx_attributes & STATX_ATTR_IMMUTABLE)
		ret->flags |= FS_IMMUTABLE_FL;
	if (stx->stx_attributes & STATX_ATTR_APPEND)
		ret->flags |= FS_APPEND_FL;
}

void stg_stat_to_meta(const struct stg_stat *st, struct tp_meta *ret)
{
	*ret = (struct tp_meta){
		.mode = st->mode,
		.uid = st->uid,
		.gid = st->gid,
		.size = st->size,
		.mtime_s = st->mtime_s,
		.mtime_ns = st->mtime_ns,
		.flags = st->flags,
		.rdev_major = (uint32_t)(st->rdev >> 32),
		.rdev_minor = (uint32_t)st->rdev,
	};
}

void stg_row_pack(uint8_t out[STG_ROW_BYTES], const struct stg_row *row)
{
	const struct stg_stat *st = &row->st;

	le32_put(out, st->mode);
	le32_put(out + 4, st->uid);
	le32_put(out + 8, st->gid);
	le32_put(out + 12, st->flags);
	le64_put(out + 16, st->size);
	le64_put(out + 24, (uint64_t)st->mtime_s);
	le32_put(out + 32, st->mtime_ns);
	le64_put(out + 36, (uint64_t)st->ctime_s);
	le32_put(out + 44, st->ctime_ns);
	le64_put(out + 48, st->ino);
	le64_put(out + 56, st->dev);
	le64_put(out + 64, st->rdev);
	le64_put(out + 72, row->child);
	le32_put(out + 80, row->phase);
	le32_put(out + 84, row->epoch);
	out[88] = row->state;
	memcpy(out + 89, row->hash.b, sizeof(row->hash.b));
	le32_put(out + 105, st->nlink);
	le64_put(out + 109, st->bytes_on_disk);
}

int stg_row_unpack(const void *p, size_t n, struct stg_row *ret)
{
	const uint8_t *in = p;

	if (n != STG_ROW_BYTES)
		return -EBADMSG;
	*ret = (struct stg_row){
		.st = {
			.mode = le32_get(in),
			.uid = le32_get(in + 4),
			.gid = le32_get(in + 8),
			.flags = le32_get(in + 12),
			.size = le64_get(in + 16),
			.mtime_s = (int64_t)le64_get(in + 24),
			.mtime_ns = le32_get(in + 32),
			.ctime_s = (int64_t)le64_get(in + 36),
			.ctime_ns = le32_get(in + 44),
			.ino = le64_get(in + 48),
			.dev = le64_get(in + 56),
			.rdev = le64_get(in + 64),
			.nlink = le32_get(in + 105),
			.bytes_on_disk = le64_get(in + 109),
		},
		.child = le64_get(in + 72),
		.phase = le32_get(in + 80),
		.epoch = le32_get(in + 84),
		.state = in[88],
	};
	memcpy(ret->hash.b, in + 89, sizeof(ret->hash.b));
	return 0;
}

bool stg_stat_movable(const struct stg_stat *st)
{
	return stg_is_dir(st) || (stg_is_reg(st) && st->size >= STG_MOVE_BYTES);
}

bool stg_stat_same(const struct stg_stat *a, const struct stg_stat *b)
{
	return a->mode == b->mode && a->uid == b->uid && a->gid == b->gid &&
	       a->flags == b->flags && a->size == b->size && a->mtime_s == b->mtime_s &&
	       a->mtime_ns == b->mtime_ns && a->ctime_s == b->ctime_s &&
	       a->ctime_ns == b->ctime_ns && a->ino == b->ino && a->rdev == b->rdev;
}

bool stg_stat_holes_differ(const struct stg_stat *a, const struct stg_stat *b)
{
	/*
	 * File systems keep more blocks than a file needs, for a while or because they were
	 * told to.  That is no hole, but in a large file it may hide one.
	 */
	return a->bytes_on_disk != b->bytes_on_disk &&
	       (a->bytes_on_disk < a->size || b->bytes_on_disk < b->size ||
		a->size > STG_HIDDEN_HOLE_BYTES || b->size > STG_HIDDEN_HOLE_BYTES);
}
