/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * stager/entry.h - one entry of the source tree as the scanner saw it, and as the catalog
 * remembers it; and the rule that says when the two mean "unchanged".
 */
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "transport/hash.h"
#include "transport/meta.h"

/* What statx(2) tells of an entry, as far as a sync cares. */
struct stg_stat {
	uint32_t mode; /* as st_mode */
	uint32_t uid, gid;
	uint32_t flags; /* FS_IMMUTABLE_FL, FS_APPEND_FL */
	uint64_t size;  /* of regular files, else 0 */
	int64_t mtime_s, ctime_s;
	uint32_t mtime_ns, ctime_ns;
	uint64_t ino;
	uint64_t dev;     /* major << 32 | minor of the file system */
	uint64_t rdev;    /* the same of a device node */
	uint32_t nlink;   /* not compared: ctime tells of its changes */
	uint64_t bytes_on_disk; /* of regular files: less than size, and there may be holes */
};

/* name, which has at most 255 bytes, as a C string in out; returns out. */
const char *stg_name_z(char out[NAME_MAX + 1], struct bytes name);

/* The file system as in struct stg_stat. */
uint64_t stg_dev_of(const struct statx *stx);
void stg_stat_from_statx(const struct statx *stx, struct stg_stat *ret);
void stg_stat_to_meta(const struct stg_stat *st, struct tp_meta *ret);

static inline bool stg_is_dir(const struct stg_stat *st)
{
	return S_ISDIR(st->mode);
}

static inline bool stg_is_reg(const struct stg_stat *st)
{
	return S_ISREG(st->mode);
}

enum stg_row_state {
	STG_ROW_CLEAN = 1, /* ctime was older than the sync point of the phase that read it */
	STG_ROW_HASHED = 2, /* hash is the content hash of what the target acknowledged */
	STG_ROW_DIRTY = 4, /* a directory that was being worked on: what it holds is unsure */
	STG_ROW_DEFECT = 8, /* a verification found it wrong: send it, whatever it looks like */
};

/* One entry as the target has acknowledged it. */
struct stg_row {
	struct stg_stat st;
	uint64_t child; /* of a directory: the id that its own entries are kept under */
	uint32_t phase; /* id of the phase in which it was acknowledged */
	uint32_t epoch; /* durable once this epoch is */
	uint8_t state;  /* STG_ROW_* */
	struct tp_hash_value hash;
};

/* The catalog's form of a row: fixed size, little-endian. */
#define STG_ROW_BYTES 117
void stg_row_pack(uint8_t out[STG_ROW_BYTES], const struct stg_row *row);
/* 0, or -EBADMSG when n is not the size of a row. */
int stg_row_unpack(const void *p, size_t n, struct stg_row *ret) _must_check_;

/* The same in all that a sync preserves, and the same inode at the same ctime. */
bool stg_stat_same(const struct stg_stat *a, const struct stg_stat *b);

/*
 * Below this size a file that was renamed is sent anew: that costs less than to keep an index
 * of the inodes of all small files.
 */
#define STG_MOVE_BYTES (64u << 10)

/* It is looked for by its inode when it appears under another name. */
bool stg_stat_movable(const struct stg_stat *st);

/*
 * Blocks that were allocated and never written read like a hole, and count like data.  In a
 * file of up to so many bytes this is not worth another look.
 */
#define STG_HIDDEN_HOLE_BYTES (64u << 10)

/* A regular file got or lost holes, or may have: its content cannot tell. */
bool stg_stat_holes_differ(const struct stg_stat *a, const struct stg_stat *b);

/*
 * Nothing can have happened to the entry since the target acknowledged row: everything is
 * equal, and its ctime is older than the sync point of the phase that read it.  Without the
 * second half, a change in the same clock tick, or a store through a shared mapping before
 * its writeback, would be missed.
 */
static inline bool stg_unchanged(const struct stg_row *row, const struct stg_stat *st)
{
	return (row->state & STG_ROW_CLEAN) && stg_stat_same(&row->st, st);
}
