/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * checks/lvm_text.h - LVM2's metadata, as it is written on every physical volume.
 *
 * Asking the lvm tools would start programs that wait for locks and for dead devices; what
 * they would say stands in the first sectors of the devices, as text (lvmsystemid(7) and the
 * format's description in LVM2's sources, doc/lvm2-raid.txt and lib/format_text/layout.h).
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "checks/mem.h"
#include "checks/root.h"
#include "common/error.h"

struct chk_lvm_pv {
	const char *name; /* "pv0", as the text calls it */
	const char *id;   /* 32 letters and digits, dashes left out */
	uint64_t extents;
	uint64_t used_extents;
	bool missing;
};

struct chk_lvm_lv {
	const char *name, *id;
	uint64_t extents;
	bool visible;
	bool simple; /* linear, striped or snapshot: what SMS takes */
};

struct chk_lvm_vg {
	const char *name, *id;
	uint64_t seqno;
	uint64_t extent_bytes;
	struct chk_lvm_pv *pvs;
	size_t n_pvs;
	struct chk_lvm_lv *lvs;
	size_t n_lvs;
};

/* Foreign bytes: -EBADMSG when text is no metadata of a volume group; -ENOMEM. */
int chk_lvm_parse(const char *text, struct chk_mem *m, struct chk_lvm_vg *ret) _must_check_;

/*
 * The metadata that the device at path holds; its own id goes into pv_id (33 bytes).
 * -ENODATA: a physical volume without metadata (of no group, or kept on others only);
 * -EBADMSG: none, or damaged; else as open(2).
 */
int chk_lvm_read(const struct chk_root *root, const char *path, struct chk_mem *m,
		 char pv_id[33], struct chk_lvm_vg *ret) _must_check_;
