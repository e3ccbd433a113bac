/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * checks/root.h - reading a system below its root directory.
 *
 * Everything the checks learn from files goes through here, so that another root (a mounted
 * image, a fixture) is read as if it were "/": an absolute link inside of it stays inside.
 * Paths are given without a leading slash.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/error.h"
#include "common/strlist.h"

/* The files read here are small; what is longer is not what it claims to be. */
#define CHK_TEXT_MAX (4u << 20)

struct chk_root {
	int fd;
	bool live;        /* it is "/": the kernel can be asked about this system */
	const char *path; /* for messages, borrowed */
};

/* path NULL or "/" is the running system.  *ret is closed by chk_root_close(). */
int chk_root_open(const char *path, struct chk_root *ret, struct err *e) _must_check_;
void chk_root_close(struct chk_root *root);

/* A descriptor (O_CLOEXEC is added) or -errno; links are followed, never out of the root. */
int chk_open(const struct chk_root *root, const char *path, int flags) _must_check_;

/*
 * The whole text of a file as a C string in out, which is cleared first; its length is at
 * most CHK_TEXT_MAX (-EFBIG).  The error names the path as the operator knows it.
 */
int chk_read(const struct chk_root *root, const char *path, struct buf *out, struct err *e)
	_must_check_;

/* The first line without its newline and surrounding blanks, cut to fit.  0 or -errno. */
int chk_read_line(const struct chk_root *root, const char *path, char *ret, size_t size)
	_must_check_;

/* A file that holds one decimal number.  0 or -errno; -EINVAL: something else. */
int chk_read_u64(const struct chk_root *root, const char *path, uint64_t *ret) _must_check_;

bool chk_exists(const struct chk_root *root, const char *path); /* links followed */
bool chk_is_dir(const struct chk_root *root, const char *path);

/* The last component of what the link at path points to.  0 or -errno. */
int chk_link_name(const struct chk_root *root, const char *path, char *ret, size_t size)
	_must_check_;

/*
 * Names in a directory without "." and "..", sorted as strverscmp(3) sorts.  *ret is to be
 * empty before, and freed by strlist_fini(), after a failure, too.  0 or -errno.
 */
int chk_list(const struct chk_root *root, const char *path, struct strlist *ret) _must_check_;

/*
 * The program of that name in the directories where systems keep programs; the path
 * relative to the root goes into ret.  False: there is none that is executable.
 */
bool chk_find_program(const struct chk_root *root, const char *name, char *ret, size_t size);

/* Why something cannot be told: the path, the root when it is another, the cause. */
int chk_sys_error(const struct chk_root *root, const char *path, int code, struct err *e);
