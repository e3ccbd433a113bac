/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * transport/frame.h - frames to bytes and back.  Every length from the peer is checked here
 * against protocol.h, so the callers handle only well-formed messages.
 */
#include "common/buf.h"
#include "common/error.h"
#include "transport/hash.h"
#include "transport/meta.h"
#include "transport/protocol.h"

struct tp_frame {
	uint8_t type; /* enum tp_type */
	uint8_t flags;
	uint16_t slot;
	struct bytes payload; /* borrowed from the buffer it was read from */
};

/*
 * Look for a whole frame at the front of in: 1 and *ret filled (consume it by
 * tp_frame_bytes()), 0: more bytes are needed, -ERR_PROTOCOL: no frame begins like this.
 */
int tp_frame_peek(const struct buf *in, struct tp_frame *ret, struct err *e) _must_check_;
size_t tp_frame_bytes(const struct tp_frame *f);

/*
 * Append a frame.  begin() leaves room for the head and returns where it is; the payload is
 * appended by the caller; end() completes the head.  -ENOMEM, or -E2BIG: more than
 * TP_FRAME_MAX, and the frame is taken off again.
 */
size_t tp_frame_begin(struct buf *out, int *r);
int tp_frame_end(struct buf *out, size_t at, uint8_t type, uint8_t flags, uint16_t slot)
	_must_check_;

/* A frame whose payload is at hand. */
int tp_frame_put(struct buf *out, uint8_t type, uint8_t flags, uint16_t slot,
		 struct bytes payload) _must_check_;

/* The name of a frame type, for messages. */
const char *tp_type_name(uint8_t type);

/* --- payloads: one struct, one put, one get each; gets return 0 or -ERR_PROTOCOL --- */

struct tp_hello {
	uint16_t version_min, version_max;
	uint32_t features;
	/* R->D */
	struct bytes receiver; /* version text */
	/* D->R */
	uint32_t flags; /* TP_H_* */
	uint16_t session;
	uint32_t idle_s;
	uint64_t run;
	struct bytes root;
};
int tp_put_hello_r(struct buf *out, const struct tp_hello *m) _must_check_;
int tp_put_hello_d(struct buf *out, const struct tp_hello *m) _must_check_;
int tp_get_hello_r(const struct tp_frame *f, struct tp_hello *ret, struct err *e) _must_check_;
int tp_get_hello_d(const struct tp_frame *f, struct tp_hello *ret, struct err *e) _must_check_;

struct tp_ready {
	uint16_t version;
	uint32_t flags; /* TP_R_* */
	uint8_t boot_id[16];
	uint32_t uid;
	uint64_t free_bytes, free_inodes, fs_magic;
};
int tp_put_ready(struct buf *out, const struct tp_ready *m) _must_check_;
int tp_get_ready(const struct tp_frame *f, struct tp_ready *ret, struct err *e) _must_check_;

int tp_put_abort(struct buf *out, uint32_t code, const char *text) _must_check_;
int tp_get_abort(const struct tp_frame *f, uint32_t *ret_code, struct bytes *ret_text,
		 struct err *e) _must_check_;

/* DIR, LIST: a path */
int tp_put_path(struct buf *out, uint8_t type, uint8_t flags, uint16_t slot, struct bytes path)
	_must_check_;
int tp_get_path(const struct tp_frame *f, struct bytes *ret, struct err *e) _must_check_;

/* ENTRY, FILE, OPEN, META, FINISH, DIRMETA, CHECK: metadata and a name (of DIRMETA: a path) */
struct tp_entry {
	struct tp_meta meta;
	struct bytes name;    /* DIRMETA, CHECK with TP_F_PATH: the path */
	struct bytes content; /* FILE */
	uint32_t links;       /* META, CHECK: names of the inode that D knows */
	uint64_t hole_bytes;  /* CHECK with TP_F_HASH */
	uint32_t holes;
	struct tp_hash_value hash; /* META, CHECK with TP_F_HASH */
	struct bytes temp;    /* FINISH */
};
int tp_put_entry(struct buf *out, uint8_t type, uint8_t flags, uint16_t slot,
		 const struct tp_entry *m) _must_check_;
int tp_get_entry(const struct tp_frame *f, struct tp_entry *ret, struct err *e) _must_check_;

int tp_put_data(struct buf *out, uint16_t slot, uint64_t off, struct bytes data) _must_check_;
int tp_get_data(const struct tp_frame *f, uint64_t *ret_off, struct bytes *ret, struct err *e)
	_must_check_;
int tp_put_hole(struct buf *out, uint16_t slot, uint64_t off, uint64_t bytes) _must_check_;
int tp_get_hole(const struct tp_frame *f, uint64_t *ret_off, uint64_t *ret_bytes,
		struct err *e) _must_check_;
int tp_put_close(struct buf *out, uint16_t slot, uint64_t size, const struct tp_hash_value *h)
	_must_check_;
int tp_get_close(const struct tp_frame *f, uint64_t *ret_size, struct tp_hash_value *ret,
		 struct err *e) _must_check_;

/* SEGMENT, HASHREQ, SUMREQ: a part of a file */
struct tp_range {
	uint64_t size;      /* of the file; not in HASHREQ */
	uint64_t off, bytes;
	struct bytes name;  /* SEGMENT: the temporary one */
	struct bytes basis; /* SEGMENT with TP_F_COPIES */
	uint32_t block;     /* SUMREQ: bytes of a block */
};
int tp_put_segment(struct buf *out, uint8_t flags, uint16_t slot, const struct tp_range *m)
	_must_check_;
int tp_get_segment(const struct tp_frame *f, struct tp_range *ret, struct err *e) _must_check_;
int tp_put_hashreq(struct buf *out, uint16_t slot, const struct tp_range *m) _must_check_;
int tp_get_hashreq(const struct tp_frame *f, struct tp_range *ret, struct err *e) _must_check_;

int tp_put_sumreq(struct buf *out, uint16_t slot, const struct tp_range *m) _must_check_;
int tp_get_sumreq(const struct tp_frame *f, struct tp_range *ret, struct err *e) _must_check_;

/* SUMS: the sums, or an error (errno; 0: none) */
int tp_put_sums(struct buf *out, uint16_t slot, uint32_t error, struct bytes sums) _must_check_;
int tp_get_sums(const struct tp_frame *f, uint32_t *ret_error, struct bytes *ret,
		struct err *e) _must_check_;

struct tp_copy {
	uint64_t off, from, bytes;
};
int tp_put_copy(struct buf *out, uint16_t slot, const struct tp_copy *m) _must_check_;
int tp_get_copy(const struct tp_frame *f, struct tp_copy *ret, struct err *e) _must_check_;

/* HASHED: a hash, or an error (errno; 0: none) */
int tp_put_hashed(struct buf *out, uint16_t slot, uint32_t error, const struct tp_hash_value *h)
	_must_check_;
int tp_get_hashed(const struct tp_frame *f, uint32_t *ret_error, struct tp_hash_value *ret,
		  struct err *e) _must_check_;

struct tp_link_msg {
	struct bytes dir, from; /* the existing name */
	struct bytes name;      /* the new one */
	uint32_t links;         /* CHECKLINK */
};
int tp_put_link(struct buf *out, const struct tp_link_msg *m) _must_check_;
int tp_put_move(struct buf *out, const struct tp_link_msg *m) _must_check_;
int tp_put_checklink(struct buf *out, const struct tp_link_msg *m) _must_check_;
int tp_get_link(const struct tp_frame *f, struct tp_link_msg *ret, struct err *e) _must_check_;

struct tp_difference {
	uint64_t n;
	uint32_t what;       /* TP_D_* */
	uint32_t links;      /* names that the inode has there */
	uint64_t hole_bytes;
	bool there;          /* meta is of something */
	struct tp_meta meta; /* without attributes */
	struct bytes attributes;
};
int tp_put_difference(struct buf *out, const struct tp_difference *m) _must_check_;
int tp_get_difference(const struct tp_frame *f, struct tp_difference *ret, struct err *e)
	_must_check_;

int tp_put_remove(struct buf *out, uint8_t flags, struct bytes name) _must_check_;
int tp_get_remove(const struct tp_frame *f, struct bytes *ret, struct err *e) _must_check_;

struct tp_sigreq {
	uint32_t block_bytes, strong_bytes;
	struct bytes name;
};
int tp_put_sigreq(struct buf *out, uint16_t slot, const struct tp_sigreq *m) _must_check_;
int tp_get_sigreq(const struct tp_frame *f, struct tp_sigreq *ret, struct err *e) _must_check_;

/* SYNC, ACK, DURABLE: one number */
int tp_put_number(struct buf *out, uint8_t type, uint64_t n) _must_check_;
int tp_get_number(const struct tp_frame *f, uint64_t *ret, struct err *e) _must_check_;

/* REFUSE, WARN */
struct tp_refusal {
	uint64_t n;
	uint32_t error; /* errno or TP_E_* */
	struct bytes operation, text;
};
int tp_put_refusal(struct buf *out, uint8_t type, const struct tp_refusal *m) _must_check_;
int tp_get_refusal(const struct tp_frame *f, struct tp_refusal *ret, struct err *e) _must_check_;

/* LISTING: items are appended to a payload, and read back one by one */
struct tp_item_entry {
	uint8_t kind; /* enum tp_item */
	uint8_t flags; /* TP_L_* */
	uint32_t mode;
	uint64_t size;
	int64_t mtime_s;
	uint32_t mtime_ns;
	struct bytes name;
	uint32_t error; /* TP_ITEM_FAIL */
};
int tp_put_item(struct buf *out, const struct tp_item_entry *m) _must_check_;
/* 1: an item; 0: the end; -ERR_PROTOCOL */
int tp_get_item(struct reader *r, struct tp_item_entry *ret, struct err *e) _must_check_;

/* True for the frames that count as completions. */
static inline int tp_is_completion(uint8_t type)
{
	return type == TP_ENTRY || type == TP_FILE || type == TP_CLOSE || type == TP_META ||
	       type == TP_LINK || type == TP_REMOVE || type == TP_DIRMETA || type == TP_FINISH ||
	       type == TP_CHECK || type == TP_CHECKLINK || type == TP_MOVE;
}

/* A name that may stand in a frame: 1..TP_NAME_MAX bytes, no slash, no NUL, not . or .. */
bool tp_name_ok(struct bytes name);
/* A temporary name of D's choice (protocol.h). */
bool tp_temp_ok(struct bytes name);
/* A path that may: components as above, single slashes, no more than TP_PATH_MAX bytes. */
bool tp_path_ok(struct bytes path);
