/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * stager/bigfile.h - a big file that several sessions send together, in segments.
 *
 * It is shared: each session claims a segment, sends it, and tells what became of it.  A
 * segment is a leaf of the content hash (transport/hash.h), so the hash of the file is put
 * together from what the sessions have found.  On the target the segments are gathered in a
 * file with a temporary name; when all are there, one session claims the end of the work.
 *
 * What was claimed and not finished is claimable again, so a lost connection costs a segment.
 * All functions but stg_bigfile_new() may be called from any thread.
 */
#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "stager/entry.h"
#include "transport/protocol.h"

struct stg_item;
struct stg_job;
struct tp_sums;

/* Smaller files are sent by one session, larger ones would need too much memory here. */
#define STG_BIG_BYTES     (64ull << 20)
#define STG_BIG_BYTES_MAX (8ull << 40)

/* What a session may do next for the file. */
enum stg_big_work {
	STG_BIG_NONE,   /* nothing, at the moment */
	STG_BIG_SUMS,   /* ask the target for sums of a part of what it has, its basis */
	STG_BIG_VERIFY, /* ask the target what it has of the segment, from an earlier run */
	STG_BIG_SEND,   /* send the segment */
	STG_BIG_CHECK,  /* send it if its hash is not `hash`, which the target has there */
	STG_BIG_FINISH, /* all segments are there: give the file its metadata and its name */
};

struct stg_big_claim {
	enum stg_big_work work;
	bool create;          /* the temporary file may not be there yet */
	bool resumed;         /* CHECK: an earlier run has sent it, this one did not */
	bool whole;           /* without the help of the basis: that did not do */
	uint64_t index, off, bytes;
	uint64_t size;        /* of the file, as it is known now; SUMS: of the basis */
	uint32_t block;       /* SUMS */
	struct tp_hash_value hash;
};

struct stg_bigfile;

/* A temporary name, made of the run's id and a number that was not used in it. */
void stg_bigfile_name(uint64_t id, unsigned serial, char ret[TP_TEMP_MAX + 1]);

/*
 * fd is its source, taken over in any case; item (copied) is what it is about, st what fd
 * was like when it was opened.  resume: the target may have parts of it under the temporary
 * name temp, from an earlier run; it is asked for them first.  When item is an update that
 * may use what the target has, the sums of that are the first work.  -ENOMEM.
 */
int stg_bigfile_new(int fd, const struct stg_item *item, const struct stg_stat *st,
		    const char *temp, bool resume, struct stg_bigfile **ret, struct err *e)
	_must_check_;
struct stg_bigfile *stg_bigfile_ref(struct stg_bigfile *b);
void stg_bigfile_unref(struct stg_bigfile *b); /* NULL is fine */

/* Is a file like this worth it? */
bool stg_bigfile_fits(const struct stg_stat *st);

int stg_bigfile_fd(const struct stg_bigfile *b);           /* for pread(2) */
const char *stg_bigfile_temp(const struct stg_bigfile *b); /* its name on the target */
void stg_bigfile_stat(struct stg_bigfile *b, struct stg_stat *ret); /* as of this round */

/*
 * The next run of data in [off, end), as of tp_next_data().  The run it was found in is kept:
 * file systems that look through all pages for the end of a run do so once.
 */
int stg_bigfile_data(struct stg_bigfile *b, uint64_t off, uint64_t end, uint64_t *ret_from,
		     uint64_t *ret_to) _must_check_;

/*
 * A job with a copy of its item, sealed, for the queue: whoever takes it may claim.  While
 * there is something to claim there is such a job in the queue, or one on its way there.
 */
int stg_bigfile_job(struct stg_bigfile *b, struct stg_job **ret, struct err *e) _must_check_;

/* Take the next work into *ret.  True: there is more, so the queue needs another job. */
bool stg_bigfile_claim(struct stg_bigfile *b, struct stg_big_claim *ret);

/*
 * The end of a claim, in one of three ways.
 * done: the target has the segment, and its hash is this.  True: it was the last one.
 * back: it was not finished (a lost connection); it can be claimed again.
 * again: the target could not keep it.  False: it was tried too often.
 */
bool stg_bigfile_done(struct stg_bigfile *b, const struct stg_big_claim *c,
		      const struct tp_hash_value *hash);
void stg_bigfile_back(struct stg_bigfile *b, const struct stg_big_claim *c);
bool stg_bigfile_again(struct stg_bigfile *b, const struct stg_big_claim *c);

/*
 * Of VERIFY: the target has this (NULL: it has nothing there).  The claim is ended, and the
 * segment can be claimed again, to be sent or to be checked.
 */
void stg_bigfile_found(struct stg_bigfile *b, const struct stg_big_claim *c,
		       const struct tp_hash_value *hash);

/*
 * Of SUMS: these are the sums, or (NULL, 0) there are none, and the file is sent without a
 * basis.  True: the last work is done that others had to wait for, so there is more to claim.
 * -ERR_PROTOCOL: they are not what was asked for.
 */
int stg_bigfile_summed(struct stg_bigfile *b, const struct stg_big_claim *c, struct bytes sums,
		       struct err *e) _must_check_;

/* What segments are matched against; NULL: they go whole.  Valid while segments are claimed. */
const struct tp_sums *stg_bigfile_sums(struct stg_bigfile *b);

/*
 * Instead of finishing it: the source is like st now, so all that was sent is compared with it
 * once more.  The claim is ended.  False: that was done often enough, it goes as it is.
 */
bool stg_bigfile_restart(struct stg_bigfile *b, const struct stg_stat *st);

/* The hash of the file, when all segments are done. */
int stg_bigfile_hash(struct stg_bigfile *b, struct tp_hash_value *ret, struct err *e) _must_check_;

/* Was the end of the work claimed and given back?  Then it may have happened. */
bool stg_bigfile_ended(struct stg_bigfile *b);

/* It cannot be sent.  True for the first who says so; nothing is claimed from now on. */
bool stg_bigfile_kill(struct stg_bigfile *b);

/*
 * A claim has been settled for good, and its session has nothing on the wire for it.  True:
 * the file is dead, and this was the last one: the temporary file is to be removed.
 */
bool stg_bigfile_release(struct stg_bigfile *b);
