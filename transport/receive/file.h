/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * transport/receive/file.h - regular files: whole ones in a frame, and those that arrive in
 * pieces, in slots.
 *
 * What goes wrong with an open file is kept in its slot and told when it is closed, so the
 * frames on the way to that need no answer.  Functions return 0, or a negative code with
 * v->fault; -ERR_PROTOCOL: the peer uses slots as it must not.
 */
#include <stdbool.h>
#include <stdint.h>

#include "transport/frame.h"
#include "transport/receive/env.h"

#define RCV_OPEN_MAX 64u /* files open at the same time */

/* A file with its content at hand, in the current directory. */
int rcv_file_whole(struct rcv_env *v, const struct tp_entry *m) _must_check_;

/* Zeros in [off, to) of fd, where no hole can be made; name is for messages. */
int rcv_write_zeros(struct rcv_env *v, int fd, const char *name, uint64_t off, uint64_t to)
	_must_check_;

struct rcv_files;
int rcv_files_new(struct rcv_files **ret, struct err *e) _must_check_;
void rcv_files_free(struct rcv_files *files); /* drops what is open; NULL is fine */
bool rcv_files_busy(const struct rcv_files *files, uint16_t slot);

int rcv_files_open(struct rcv_env *v, struct rcv_files *files, uint16_t slot,
		   const struct tp_entry *m, bool basis) _must_check_;
int rcv_files_data(struct rcv_env *v, struct rcv_files *files, uint16_t slot, uint64_t off,
		   struct bytes data) _must_check_;
int rcv_files_hole(struct rcv_env *v, struct rcv_files *files, uint16_t slot, uint64_t off,
		   uint64_t n) _must_check_;
int rcv_files_delta(struct rcv_env *v, struct rcv_files *files, uint16_t slot,
		    struct bytes delta) _must_check_;
int rcv_files_close(struct rcv_env *v, struct rcv_files *files, uint16_t slot, uint64_t size,
		    const struct tp_hash_value *hash) _must_check_;
int rcv_files_drop(struct rcv_env *v, struct rcv_files *files, uint16_t slot) _must_check_;
