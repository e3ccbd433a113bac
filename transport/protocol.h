/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * transport/protocol.h - what the driver (D, stager) and the receiver (R, stager-receive)
 * say to each other: layout, order, limits, versions.  No code; transport/frame.c is the
 * only encoder and decoder of frames, transport/stream.c of blocks.
 *
 * Integers are unsigned unless said otherwise, little-endian.  Names and paths are bytes
 * without a terminating NUL; paths are relative to the target root, components separated by
 * one slash, without "." and ".."; the empty path is the root itself.
 *
 * Preamble.  R writes TP_MAGIC (16 bytes) first of all; whatever a login shell printed
 * before it is skipped by D, up to TP_NOISE_MAX bytes.  D writes TP_MAGIC too, at once.
 *
 * Blocks.  After the preamble each direction is a sequence of blocks:
 *
 *   0                    4
 *   +--------------------+--------------------+
 *   | length | flag Z    | length bytes       |
 *   +--------------------+--------------------+
 *   bits 0..23: length, 1..TP_BLOCK_MAX; bit 31 (Z): the bytes are the next piece of the
 *   direction's one zstd stream, flushed at the end of the block (a plain block is no part
 *   of that stream), which is one frame of zstd, or with LEVELS several; the other bits are 0.  A block unpacks to at most TP_BLOCK_RAW_MAX.
 *
 * Frames.  The unpacked bytes are a sequence of frames, which may cross block borders:
 *
 *   0      1       2               4                 8
 *   +------+-------+---------------+-----------------+-- payload_bytes --+
 *   | type | flags | slot          | payload_bytes   | payload ...       |
 *   +------+-------+---------------+-----------------+-------------------+
 *
 *   slot names one of several things under way at once (an open file, a listing, a
 *   signature); D chooses it and may use it again after its end was told.
 *
 * The conversation.
 *
 *   R->D HELLO             at once: versions, features
 *   D->R HELLO             at once, without waiting: versions, features, the target root
 *   R->D READY | ABORT     the root is held; its file system, boot id, abilities
 *   D->R ... R->D ...      as below, both ways at the same time; nothing waits for an answer
 *   D->R BYE               R answers what it owes, then ends with status 0
 *
 *   Version: the highest that both know; none: ABORT (TP_ABORT_VERSION), exit status 2.
 *   Features: those that both name.
 *
 * Completions.  ENTRY, FILE, CLOSE, FINISH, META, LINK, REMOVE, DIRMETA, MOVE, CHECK
 * and CHECKLINK each ask R to finish one thing.  Both sides number them from 1 in the order of the wire.  R
 * answers with ACK n: all up to n are done, but for those that a REFUSE has named before; a
 * WARN names one that was done but lost something.  R sends ACK when it has run out of input,
 * and at least every TP_ACK_EVERY completions.  CHECK and CHECKLINK change nothing; where what
 * is there differs a DIFFER tells it before the ACK.
 *
 * Big files go in segments, over any of the sessions and in any order, into a file with a
 * temporary name that all of their receivers open: SEGMENT, then DATA, HOLE and COPY with
 * offsets of the file that grow and stay within the segment, then CLOSE with the number of
 * its bytes and their hash, which is that of a leaf (transport/hash.h).  What is left out of
 * a segment is a hole.  When all of them were acknowledged, one session sends FINISH.  The
 * temporary file outlives a connection that breaks, so that nothing is sent twice; HASHREQ
 * asks what is in it.
 *
 * DIR sets the directory that the names of later frames are in.  If R cannot enter it, each
 * completion in it is refused with that error.
 */

#define TP_MAGIC       "\0STAGER-RECEIVE\n" /* 16 bytes, without the C string's NUL */
#define TP_MAGIC_BYTES 16
#define TP_NOISE_MAX   65536u

#define TP_VERSION_MIN 3u /* sums of blocks are of 8 bytes */
#define TP_VERSION_MAX 3u

#define TP_BLOCK_HEAD    4u
#define TP_BLOCK_Z       0x80000000u
#define TP_BLOCK_LENGTH  0x00ffffffu
#define TP_BLOCK_RAW_MAX 262144u            /* unpacked bytes in one block */
#define TP_BLOCK_MAX     (262144u + 4096u)  /* zstd can grow what it cannot shrink */
#define TP_ZSTD_WINDOW   21                 /* log2: either side needs 2 MiB for the window */

#define TP_FRAME_HEAD    8u
#define TP_FRAME_MAX     (8u << 20) /* payload bytes; holds an entry with all its xattrs */
#define TP_DATA_MAX      (256u << 10) /* file bytes in one DATA, DELTA, SIG or FILE frame */
#define TP_PATH_MAX      (256u << 10) /* a path may be longer than PATH_MAX */
#define TP_NAME_MAX      255u
#define TP_TARGET_MAX    65535u       /* of a symbolic link */
#define TP_TEXT_MAX      1024u        /* of a message for people */
#define TP_SLOT_MAX      1024u        /* slots are below this number */
#define TP_ACK_EVERY     256u
#define TP_HASH_BYTES    16u

/* Names of D's choice for files in the making: this, then hexadecimal digits and dots. */
#define TP_TEMP_PREFIX ".stager-tmp."
#define TP_TEMP_MAX    47u

/* Feature bits of HELLO; bits that a side does not know are ignored. */
enum tp_feature {
	TP_FEATURE_ZSTD = 1u << 0, /* Z blocks, both directions */
	TP_FEATURE_CHECK = 1u << 1, /* CHECK, CHECKLINK, DIFFER */
	TP_FEATURE_LEVELS = 1u << 2, /* the zstd stream may be of several frames */
};

enum tp_type {
	/* Both directions */
	TP_HELLO = 1, /* below */
	TP_ABORT,     /* le32 code (enum tp_abort), text: the sender hangs up */

	/* D->R */
	TP_DIR = 16, /* path.  Flag CREATE: missing components are made, mode 0700, and
			what is no directory on the way is replaced.  Flag AFRESH: what R holds
			open may have been moved by another session's MOVE, look paths up anew */
	TP_ENTRY,    /* meta, name: anything but a directory, complete without content;
			a regular file is empty.  Nothing is changed where it is right already */
	TP_FILE,     /* meta, name, le32 bytes, content: a regular file without holes */
	TP_OPEN,     /* slot; meta, name: begin a regular file.  Flag BASIS: DELTA frames
			follow, against the file of that name */
	TP_DATA,     /* slot; le64 offset, bytes */
	TP_HOLE,     /* slot; le64 offset, le64 bytes: no storage for this range */
	TP_DELTA,    /* slot; bytes of a librsync delta, the command stream in order */
	TP_CLOSE,    /* slot; le64 size, hash[16]: the file is finished if its size and content
			hash agree, else it is refused with TP_E_MISMATCH and dropped */
	TP_DROP,     /* slot: forget the open file (its source changed); no completion */
	TP_META,     /* meta, name, le32 links: the entry exists, give it this metadata.  It is
			refused with TP_E_STALE when type, size or link target differ.  An inode
			with more than `links` names is first replaced by a copy.
			Flag HASH: hash[16] follows, the content must agree with it too */
	TP_LINK,     /* le32 bytes, directory path, le16 bytes, name (the existing one), le16
			bytes, name (the new one, in the current directory) */
	TP_REMOVE,   /* name.  Flag DIRECTORY: an empty directory, else anything else.
			What is gone already counts as removed */
	TP_DIRMETA,  /* meta, path: the directory's final metadata */
	TP_LIST,     /* slot; path: ask for LISTING.  Flag RECURSE: with all below it */
	TP_SIGREQ,   /* slot; le32 block bytes, le32 strong bytes, name: ask for SIG */
	TP_SYNC,     /* le64 epoch: ask for DURABLE */
	TP_PING,     /* empty; keeps R's idle clock from running out */
	TP_BYE,      /* empty */
	TP_CHECK,    /* meta, name, le32 links: compare the entry with this metadata, and that
			it has no more than `links` names (0: any number).
			Flag HASH: le64 bytes of holes, le32 number of holes, hash[16] follow,
			of a regular file.  It shall have that content, and no less of holes.
			Flag LIVE: it is being written, its size and times are not compared.
			Flag PATH: in place of the name a path, of a directory */
	TP_CHECKLINK, /* as LINK, then le32 links: the two names shall be one inode, which has
			no more than `links` names.  Refused with ENOENT where one is missing */
	TP_SEGMENT,  /* slot; le64 size of the file, le64 offset, le64 bytes, temporary name:
			begin a part of a big file; what the file has there goes.  It is refused
			with TP_E_STALE when the temporary file is not there, or is none of ours.
			Flag CREATE: it is made when it is missing.  Flag COPIES: a name follows,
			COPY frames take from that file */
	TP_COPY,     /* slot; le64 offset, le64 offset in the basis, le64 bytes */
	TP_FINISH,   /* meta, name, temporary name: all is in it, it becomes the file of that
			name.  Flag CREATE: there were no segments, it is all one hole.  Refused
			with TP_E_STALE like SEGMENT, with TP_E_BLOCKED it is kept */
	TP_HASHREQ,  /* slot; le64 offset, le64 bytes (a leaf at most), name: ask for HASHED */
	TP_SUMREQ,   /* slot; le64 offset, le64 bytes, name, le64 size, le32 block bytes: ask for
			SUMS of a part of the file, which must have that size.  The part begins
			with a block, and ends with one or with the file */
	TP_MOVE,     /* as LINK: the existing name, of a file or directory, becomes the new one,
			which must be free */

	/* R->D */
	TP_READY = 64, /* below */
	TP_ACK,        /* le64 n */
	TP_REFUSE,     /* le64 n, le32 error (errno or TP_E_*), le16 bytes, operation, text */
	TP_WARN,       /* the same */
	TP_LISTING,    /* slot; a sequence of items, below.  Flag LAST: the end, without items;
			  empty, or le32 error when the directory could not be read (ENOENT: it
			  is not there) */
	TP_SIG,        /* slot; bytes of a librsync signature.  Flag LAST: the end.  Flag
			  ERROR: le32 error instead; there is no basis, send the file whole */
	TP_DURABLE,    /* le64 epoch: all that was acknowledged before the SYNC was read is on
			  stable storage of every file system that R touched */
	TP_DIFFER,     /* le64 n, le32 what (TP_D_*), le32 links, le64 bytes of holes, u8 there;
			  1: meta of what is there, without XATTR, its link target cut to
			  TP_TEXT_MAX bytes; text: the names of attributes that differ, with
			  blanks between them, and cut to what a text may be */
	TP_SUMS,       /* slot; the sums of all blocks asked for (transport/blocks.h).  Flag ERROR:
			  le32 error instead; there is no basis, send the file whole */
	TP_HASHED,     /* slot; hash[16] of what a file has there, as of a leaf.  Flag ERROR:
			  le32 error instead */
};

/* Frame flags; each belongs to the frames named above. */
#define TP_F_CREATE    1u
#define TP_F_AFRESH    2u
#define TP_F_BASIS     1u
#define TP_F_HASH      1u
#define TP_F_DIRECTORY 1u
#define TP_F_RECURSE   1u
#define TP_F_LAST      1u
#define TP_F_ERROR     2u
#define TP_F_LIVE      2u
#define TP_F_PATH      4u
#define TP_F_COPIES    2u

/* Refusals that errno has no name for. */
#define TP_E_BASE     20000u
#define TP_E_MISMATCH 20001u /* the content is not what the hash says: send it whole */
#define TP_E_STALE    20002u /* what is there is not what META expects: send it whole */
#define TP_E_BLOCKED  20003u /* a directory that is not empty is in the way */

/* What DIFFER tells of.  Where MISSING or TYPE is set nothing else was compared. */
#define TP_D_MISSING    (1u << 0)
#define TP_D_TYPE       (1u << 1)
#define TP_D_SIZE       (1u << 2)
#define TP_D_CONTENT    (1u << 3)
#define TP_D_HOLES      (1u << 4) /* they are allocated there */
#define TP_D_TARGET     (1u << 5) /* of a symbolic link */
#define TP_D_RDEV       (1u << 6)
#define TP_D_MODE       (1u << 7)
#define TP_D_UID        (1u << 8)
#define TP_D_GID        (1u << 9)
#define TP_D_MTIME      (1u << 10)
#define TP_D_ACL        (1u << 11)
#define TP_D_CAPABILITY (1u << 12)
#define TP_D_XATTR      (1u << 13)
#define TP_D_FLAGS      (1u << 14)
#define TP_D_LINKS      (1u << 15) /* other names than it should */
#define TP_D_ALL        ((1u << 16) - 1)

/*
 * Holes are counted in whole blocks of TP_HASH_BLOCK bytes.  File systems with larger blocks
 * keep less of each hole: two blocks of the target's for one hole are no difference.
 */

enum tp_abort {
	TP_ABORT_VERSION = 1, /* exit 2 */
	TP_ABORT_PROTOCOL,    /* exit 12: nonsense on the wire */
	TP_ABORT_ROOT,        /* exit 11: the target root cannot be used */
	TP_ABORT_IO,          /* exit 11: out of memory, the root is gone */
	TP_ABORT_IDLE,        /* exit 30: nothing was heard for the idle time */
	TP_ABORT_BUSY,        /* exit 44: another run works on this root */
};

/*
 * HELLO, both ways:  le16 version_min, le16 version_max, le32 features, then
 *   R->D: text, the version of the receiver
 *   D->R: le32 flags (TP_H_*), le16 session, le32 idle_s, le64 run, path of the root (absolute)
 * READY: le16 version, le32 flags (TP_R_*), boot_id[16], le32 uid, le64 free_bytes,
 *   le64 free_inodes (all ones: the file system has no such limit), le64 fs_magic
 */
#define TP_H_CREATE_ROOT 1u /* make the root when its parent is there */
#define TP_H_MKPATH      2u /* make its parents too */

#define TP_R_EMPTY   1u  /* the root has no entries (TP_OWN_DIR aside) */
#define TP_R_CHOWN   2u  /* may give files away */
#define TP_R_MKNOD   4u  /* may make devices */
#define TP_R_TRUSTED 8u  /* may write trusted and security xattrs */
#define TP_R_FLAGS   16u /* may write immutable and append-only flags */
#define TP_R_CREATED 32u /* the root was made just now */

/* The name at the target root that is the product's own; it is never listed or synced. */
#define TP_OWN_DIR ".stager"

/*
 * meta: u8 present (TP_M_*), le32 mode (type and permissions, as st_mode), le32 uid,
 *   le32 gid, le64 size, le64 mtime seconds (two's complement), le32 mtime nanoseconds, then
 *   what `present` names, in this order:
 *   FLAGS  le32, FS_IMMUTABLE_FL and FS_APPEND_FL as in <linux/fs.h>
 *   RDEV   le32 major, le32 minor
 *   TARGET le16 bytes, the target of a symbolic link
 *   XATTR  le32 bytes, extended attributes, ACLs among them, sorted by name:
 *          each le16 name_bytes, le32 value_bytes, name, value
 * An entry without XATTR shall have none.
 *
 * name in a frame: le16 bytes, bytes.  path: le32 bytes, bytes.
 *
 * LISTING item: u8 kind, then
 *   ENTRY  u8 flags (TP_L_*), le32 mode, le64 size, le64 mtime seconds, le32 mtime ns,
 *          le16 bytes, name
 *   ENTER  (after the ENTRY of a directory, when recursing): the items up to LEAVE are in it
 *   LEAVE
 *   FAIL   le32 error: the directory just entered could not be read to its end
 */
#define TP_M_FLAGS  1u
#define TP_M_RDEV   2u
#define TP_M_TARGET 4u
#define TP_M_XATTR  8u

enum tp_item {
	TP_ITEM_ENTRY = 1,
	TP_ITEM_ENTER,
	TP_ITEM_LEAVE,
	TP_ITEM_FAIL,
};

#define TP_L_MOUNT 1u /* another file system is mounted here; it is not entered */
