/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * transport/receive/node.h - what needs no content: entries complete in themselves, metadata
 * of entries that exist, hard links, removals, directories' final metadata.
 *
 * Names are in the current directory, v->cur.  Each returns 0, or a negative code with
 * v->fault; -ENOENT may mean that the current directory itself is gone.
 */
#include <stdbool.h>

#include "transport/frame.h"
#include "transport/receive/env.h"

int rcv_node_entry(struct rcv_env *v, const struct tp_entry *m) _must_check_;
int rcv_node_meta(struct rcv_env *v, const struct tp_entry *m, bool with_hash) _must_check_;
int rcv_node_link(struct rcv_env *v, const struct tp_link_msg *m) _must_check_;
int rcv_node_move(struct rcv_env *v, const struct tp_link_msg *m) _must_check_;
int rcv_node_remove(struct rcv_env *v, struct bytes name, bool directory) _must_check_;
int rcv_node_dirmeta(struct rcv_env *v, const struct tp_entry *m) _must_check_;
