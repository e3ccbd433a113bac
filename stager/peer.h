/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * stager/peer.h - the driver's end of one session, shared by the files that make it up:
 *
 *   sender.c    the thread: connecting, the loop of reading and writing, reconnecting
 *   transmit.c  items to frames
 *   content.c   the content of a regular file
 *   small.c     files that go in one frame
 *   segment.c   segments of big files, which several sessions share
 *   check.c     items of a verification
 *   outcome.c   what the receiver answers to completions
 *   listing.c   listings: comparing a directory, removing a tree
 *
 * A peer belongs to its thread; nothing here is locked.
 */
#include <stdbool.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/error.h"
#include "stager/job.h"
#include "stager/level.h"
#include "stager/run.h"
#include "transport/delta.h"
#include "transport/frame.h"
#include "transport/hash.h"
#include "transport/link.h"
#include "transport/stream.h"

#define PEER_SLOTS       32          /* listings and signatures under way, and open files */
#define PEER_OUT_BYTES   (1u << 20)  /* frames and blocks ready to be written, at most */
#define PEER_OUT_LEAST   (256u << 10) /* and at first: it grows while the link takes all */
#define PEER_FLIGHTS_MAX 8192u       /* completions not yet acknowledged */
#define PEER_SIG_BYTES   (32u << 20) /* signatures asked for and not yet used */
#define PEER_TRIES_MAX   4           /* of one entry, before it counts as failed */
#define PEER_SCRATCH     (256u << 10)
#define PEER_SMALL       (128u << 10) /* a smaller file goes in one frame */
#define PEER_DELTA_MIN   (32u << 10)  /* below, a delta saves less than it costs */
#define PEER_ATTEMPTS    3            /* to read a file that changes meanwhile */
#define PEER_CONTENT     (32u << 20) /* a session that has so much to do leaves jobs to others */

/* A completion on its way. */
struct flight {
	enum flight_kind {
		FLIGHT_ROW,     /* record row for the item */
		FLIGHT_DIR,     /* the same for a directory's final metadata */
		FLIGHT_REMOVED, /* forget the item */
		FLIGHT_MOVED,   /* the item's row is under its new name now */
		FLIGHT_BELOW,   /* something below a removed directory; no item */
		FLIGHT_SEGMENT, /* of a big file; the row has its hash */
		FLIGHT_TEMP,    /* a temporary name was removed; no item, and no matter */
		FLIGHT_CHECK,   /* of a verification; row has what the source has */
	} kind;
	bool refused;
	bool warned;
	bool by_hash; /* only metadata went, the content was known to be there */
	bool again;       /* CHECK: the second one of its item */
	uint32_t differs; /* CHECK: TP_D_* of what the target has */
	struct stg_job *job;
	struct stg_item *item;
	struct stg_row row;
	uint64_t hole_bytes; /* CHECK: of the source's file */
};

enum slot_kind {
	SLOT_FREE,
	SLOT_FILE,      /* the open file */
	SLOT_SIG,       /* a signature is coming */
	SLOT_SIG_READY, /* it is here */
	SLOT_COMPARE,   /* a listing is coming, for a job */
	SLOT_REMOVE,    /* a listing of a tree to remove */
	SLOT_SUMS,      /* sums of a part of a big file are coming */
	SLOT_HASHED,    /* the hash of one is */
};

struct slot {
	enum slot_kind kind;
	struct stg_job *job;
	struct stg_item *item;
	struct buf data;      /* signature, or LISTING items of a comparison */
	size_t expect;        /* bytes of the signature, for the bound */
	struct stg_removing *removing;
};

enum file_mode {
	FILE_DATA,  /* send the content */
	FILE_DELTA, /* send a delta */
	FILE_HASH,  /* read it only, to see whether it is what the target has */
};

/* The file that is being read. */
struct peer_file {
	bool active;
	enum file_mode mode;
	int fd;
	uint16_t slot;
	unsigned attempt;
	struct stg_job *job;
	struct stg_item *item;
	struct stg_stat st; /* when it was opened */
	uint64_t off, run_end;
	struct tp_delta *delta;
	struct buf delta_out;
};

/* The segment that is being read. */
struct peer_segment {
	struct stg_job *job; /* NULL: none */
	bool check;          /* read it only, to see whether the source has changed */
	uint16_t slot;
	uint64_t off, end, run_end;
	struct tp_match *match; /* of the run; NULL: it goes as it is */
	uint64_t feed, feed_end; /* what the match is still to see */
};

struct peer {
	struct stg_run *run;
	unsigned index;
	struct tp_link *link;
	struct tp_pack *pack;
	struct tp_unpack *unpack;
	struct buf out;      /* frames */
	struct buf wire;     /* blocks */
	size_t ahead;        /* bytes of both that may be ready */
	bool provided;       /* there was as much, when it was looked at last */
	struct stg_level level; /* of p->pack */
	struct buf in_wire, in;
	bool magic, hello, ready;
	int wake_fd;  /* eventfd: the phase wants something (an epoch, the end) */
	int epoll_fd; /* wake_fd, and the queue's descriptor while work is wanted */
	int sched_fd; /* what the scheduler says of the thread; -1: nothing */
	bool watching; /* the queue's descriptor is in epoll_fd */
	uint32_t features;
	int64_t heard_ns, wrote_ns;
	uint64_t sent, acked; /* completions, counted from 1 */
	struct flight *flights; /* a ring */
	size_t flights_cap, flights_at;
	struct stg_job *held;                /* all jobs that this session has */
	uint64_t held_content;               /* the sum of their contents */
	struct stg_job *ready_first, **ready_last; /* those with items to send */
	struct slot slots[PEER_SLOTS];
	size_t sig_bytes;
	struct peer_file file;
	struct peer_segment seg;
	struct tp_hash *hash;
	uint8_t *scratch;
	struct buf xattrs, path;
	bool dir_known; /* the receiver is in dir_path... */
	bool dir_made;  /* ...and has made it if it was missing */
	struct buf dir_path;
	unsigned dir_pass; /* of the run, when the receiver was told to go there */
	unsigned moved; /* of the run, when the receiver looked up paths afresh */
	int source_fd;  /* the source directory that is held open; -1: none */
	struct buf source_path;
	unsigned source_pass; /* of the run, when it was opened */
	uint32_t synced; /* the last epoch asked for */
	atomic_uint_fast32_t durable; /* the last one answered */
	atomic_bool connected;
	struct stg_session_stats stats;
	uint64_t wire_out_before, wire_in_before; /* of earlier connections */
	uint64_t accepted, charged; /* by the link, to the limit: of this connection */
};

/* --- transmit.c --- */

/*
 * Put some frames into p->out: a step of the open file, or the next item.  1: something was
 * done; 0: there is nothing to do now; negative: the phase is over.
 */
int peer_generate(struct peer *p, struct err *e) _must_check_;
/* It would take another job from the queue now. */
bool peer_wants_job(const struct peer *p);
/* Tell the receiver which directory the next frames are about. */
int peer_enter(struct peer *p, struct bytes path, bool create, struct err *e) _must_check_;
/* Count a completion that was just put into p->out. */
int peer_add_flight(struct peer *p, const struct flight *f, struct err *e) _must_check_;
int peer_slot_new(struct peer *p, enum slot_kind kind, struct err *e) _must_check_;
void peer_slot_free(struct peer *p, struct slot *s);

/* An entry frame of type with the metadata of st; -E2BIG: too large to be sent. */
int peer_put_entry(struct peer *p, uint8_t type, uint8_t flags, uint16_t slot,
		   struct tp_entry *m, const struct stg_stat *st, struct bytes name);
/* After peer_put_entry() failed with r: only this entry is lost when it was too large. */
int peer_put_failed(struct peer *p, struct stg_job *job, struct stg_item *item, int r,
		    struct err *e);
/* Count the completion whose acknowledgement makes st and hash (NULL: none) the item's row. */
int peer_fly_row(struct peer *p, struct stg_job *job, struct stg_item *item,
		 const struct stg_stat *st, bool live, const struct tp_hash_value *hash,
		 struct err *e) _must_check_;
/* The source could not be read: code is -errno.  The item is done. */
void peer_source_error(struct peer *p, struct stg_job *job, struct stg_item *item,
		       const char *operation, int code);
/* So much content of item goes over the wire, or was found on the target by a delta. */
void peer_count_sent(struct peer *p, const struct stg_item *item, uint64_t literal,
		     uint64_t matched);
/* It changed while it was read, and goes as it was. */
void peer_note_changed(struct peer *p, const struct stg_item *item);
/* statx(2) as stg_stat.  0 or -errno. */
int peer_restat(int dirfd, const char *name, int flags, struct stg_stat *ret) _must_check_;

/* Open the item's file on the source; a descriptor, or -errno. */
int peer_open_source(struct peer *p, struct bytes path, struct bytes name,
		     struct stg_stat *ret) _must_check_;
/* The same without a look at what it is. */
int peer_open_unseen(struct peer *p, struct bytes path, struct bytes name) _must_check_;
/* How many are free; answers that have not come have the others, and open files. */
size_t peer_free_slots(const struct peer *p);
/* What peer_add_flight() has added last; the pointer holds until it adds the next. */
struct flight *peer_last_flight(struct peer *p);
/*
 * item may not be what it will be: count it and put it into the report; its row says whether
 * the next phase looks at its content again.  p->path becomes the item's path.
 */
void peer_note_live(struct peer *p, const struct stg_item *item, const char *operation,
		    const char *text);
/* -ENOMEM, told. */
int peer_no_memory(struct err *e);

/* --- content.c: what is in a regular file --- */

/* By the shortest way: hash, delta, shared with other sessions, or whole. */
int peer_send_regular(struct peer *p, struct stg_job *job, struct stg_item *item,
		      struct err *e) _must_check_;
/* The next piece of the file that is open; p->file.active. */
int peer_step_file(struct peer *p, struct err *e) _must_check_;
/* Forget it. */
void peer_file_close(struct peer *p);
/* Begin sending the file of a slot whose signature is here (or failed to come). */
int peer_begin_delta(struct peer *p, struct slot *s, struct err *e) _must_check_;
/* Read the file behind fd (taken over) to its end: peer_check_hashed() comes of it. */
int peer_hash_item(struct peer *p, struct stg_job *job, struct stg_item *item, int fd,
		   const struct stg_stat *st, struct err *e) _must_check_;

/* --- segment.c --- */

/* Let the sessions share the file behind fd (taken over); the item is done here. */
int peer_begin_big(struct peer *p, struct stg_job *job, struct stg_item *item, int fd,
		   const struct stg_stat *st, struct err *e) _must_check_;
/* Do some of the work that a BIG job, just popped, is about. */
int peer_take_big(struct peer *p, struct stg_job *job, struct err *e) _must_check_;
/* The next piece of the segment that is being read. */
int peer_step_segment(struct peer *p, struct err *e) _must_check_;
/* Forget the segment that is being read. */
void peer_segment_close(struct peer *p);
/* TP_SUMS, TP_HASHED */
int peer_on_sums(struct peer *p, const struct tp_frame *f, struct err *e) _must_check_;
int peer_on_hashed(struct peer *p, const struct tp_frame *f, struct err *e) _must_check_;
/* What became of a completion of a BIG job; it is dealt with. */
int peer_big_acked(struct peer *p, struct flight *f, struct err *e) _must_check_;
int peer_big_refused(struct peer *p, struct flight *f, const struct tp_refusal *m,
		     const char *operation, const char *text, struct err *e) _must_check_;
/* The target has no room: nothing of the file is kept. */
int peer_big_lost(struct peer *p, struct stg_job *job, struct err *e) _must_check_;
/* The connection is gone: others go on with what the job had claimed. */
int peer_give_back_big(struct peer *p, struct stg_job *job, struct err *e) _must_check_;

/* --- outcome.c --- */

int peer_on_ack(struct peer *p, uint64_t n, struct err *e) _must_check_;
int peer_on_refuse(struct peer *p, const struct tp_refusal *m, struct err *e) _must_check_;
int peer_on_warn(struct peer *p, const struct tp_refusal *m, struct err *e) _must_check_;
/* An item is finished, well or not; with its last one the job is. */
void peer_item_done(struct peer *p, struct stg_job *job, struct stg_item *item);
/* Send it once more, as op; after too many tries it counts as failed. */
int peer_item_again(struct peer *p, struct stg_job *job, struct stg_item *item, enum stg_op op,
		    struct err *e) _must_check_;
void peer_item_failed(struct peer *p, struct stg_job *job, struct stg_item *item,
		      const char *operation, int code, const char *text);
/* Completion n, which is on its way: p->acked < n <= p->sent. */
struct flight *peer_flight_at(struct peer *p, uint64_t n);
/* The connection is gone: give back all that was not acknowledged. */
int peer_give_back(struct peer *p, struct err *e) _must_check_;

/* --- small.c: files that go in one frame --- */

/*
 * The file behind fd, seen as *st: its content and hash in one frame; p->xattrs are read.  *st
 * becomes what was sent.  1: done, or it cannot be read, which was told; 0: it has grown too
 * large meanwhile; negative.
 */
int peer_send_small(struct peer *p, struct stg_job *job, struct stg_item *item, int fd,
		    struct stg_stat *st, struct err *e) _must_check_;
/*
 * The short road for a small file that is still what the scan has seen.  1: done; 0: it is
 * another kind of item, or something is different: take the long road; negative.
 */
int peer_send_settled(struct peer *p, struct stg_job *job, struct stg_item *item,
		      struct err *e) _must_check_;

/* --- check.c: items of a verification --- */

/* Compare the entry, whose directory is open as dir and which is called name. */
int peer_check_item(struct peer *p, struct stg_job *job, struct stg_item *item,
		    const struct stg_stat *st, int dir, const char *name, struct err *e)
	_must_check_;
/* Its content is known now; live: it would not settle. */
int peer_check_hashed(struct peer *p, struct stg_job *job, struct stg_item *item, int fd,
		      const struct stg_stat *st, const struct tp_hash_value *hash, bool live,
		      struct err *e) _must_check_;
/* The root, which has no name; and the two that are about names only. */
int peer_check_root(struct peer *p, struct stg_job *job, struct stg_item *item, struct err *e)
	_must_check_;
int peer_check_absent(struct peer *p, struct stg_job *job, struct stg_item *item,
		      struct err *e) _must_check_;
int peer_check_link(struct peer *p, struct stg_job *job, struct stg_item *item, struct err *e)
	_must_check_;
int peer_on_differ(struct peer *p, const struct tp_frame *f, struct err *e) _must_check_;
/* The flight is acknowledged. */
int peer_check_settled(struct peer *p, const struct flight *f, struct err *e) _must_check_;
/* The listing of a directory tells this of one of its names. */
int peer_check_extra(struct peer *p, struct bytes path, uint32_t mode, enum stg_cause cause,
		     struct err *e) _must_check_;
int peer_check_missing(struct peer *p, const struct stg_item *item, struct err *e)
	_must_check_;

/* --- listing.c --- */

struct stg_removing;
bool stg_is_receiver(struct bytes path); /* an uploaded receiver: never deleted by a sync */
int peer_on_listing(struct peer *p, const struct tp_frame *f, struct err *e) _must_check_;
/* Ask for what is below item, to remove all of it that no rule protects. */
int peer_begin_removal(struct peer *p, struct stg_job *job, struct stg_item *item,
		       struct err *e) _must_check_;
void stg_removing_free(struct stg_removing *m);

/* --- sender.c --- */

void peer_hold(struct peer *p, struct stg_job *job);
void peer_make_ready(struct peer *p, struct stg_job *job);
