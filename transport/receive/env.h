/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * transport/receive/env.h - what the parts of the receiver share: the root, the directory
 * that names are in, scratch memory, and how a failure is told.
 *
 * The process's working directory is always the current directory of the conversation, as
 * the lsetxattr() family takes no directory descriptor.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/buf.h"
#include "common/bytes.h"
#include "common/error.h"
#include "transport/protocol.h"

struct rcv_dir;
struct rcv_dirs;
struct tp_hash;

#define RCV_SCRATCH_BYTES (256u << 10)
#define RCV_OP_MAX        288u /* "setxattr " and the longest name */

/* Why something was refused. */
struct rcv_fault {
	int code; /* negative: -errno or -TP_E_*; -ERR_PROTOCOL ends the conversation */
	char op[RCV_OP_MAX];
	char text[TP_TEXT_MAX];
};

/* What the conversation does for the parts. */
struct rcv_hooks {
	/* The completion that is being worked on loses something. */
	void (*warn)(void *arg, const struct rcv_fault *f);
	/* Something long begins: send what is owed first. */
	void (*calm)(void *arg);
};

struct rcv_env {
	int rootfd;
	uint32_t abilities; /* TP_R_* */
	bool super;         /* permission bits do not bind this process */
	struct rcv_dirs *dirs;
	struct rcv_dir *cur;        /* NULL: cur_fault says why */
	struct rcv_fault cur_fault;
	struct rcv_fault fault;     /* of the last function that failed */
	uint32_t temp_serial;
	struct buf xattrs;          /* scratch of metaset.c */
	struct buf text;            /* scratch for link targets */
	uint8_t *scratch;           /* RCV_SCRATCH_BYTES */
	struct tp_hash *hash;
	const struct rcv_hooks *hooks;
	void *hooks_arg;
};

/* hooks live as long as v.  0 or -ENOMEM. */
int rcv_env_init(struct rcv_env *v, int rootfd, uint32_t abilities, bool super,
		 const struct rcv_hooks *hooks, void *hooks_arg, struct err *e) _must_check_;
void rcv_env_fini(struct rcv_env *v);

/* Fill v->fault and return code. */
int rcv_fail(struct rcv_env *v, int code, const char *op, const char *fmt, ...)
	_printf_(4, 5);

/* The same with -errno; the text is what (made printable) and the system's message. */
int rcv_fail_sys(struct rcv_env *v, const char *op, const char *what);

/* As rcv_fail_sys(), but the work goes on: the peer is told by a WARN. */
void rcv_warn_sys(struct rcv_env *v, const char *op, const char *what);

void rcv_calm(struct rcv_env *v);

/* A name as a C string: names were checked, so they fit. */
struct rcv_name {
	char s[TP_NAME_MAX + 1];
};
void rcv_name_of(struct bytes b, struct rcv_name *ret);

/* True for TP_OWN_DIR at the root, and for paths to it or below it. */
bool rcv_own_path(struct bytes path);
bool rcv_own_name(const struct rcv_dir *dir, const char *name);
