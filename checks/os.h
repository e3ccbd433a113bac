/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * checks/os.h - which distribution and version a root directory holds.
 *
 * os-release(5) says it on systems since about 2012; but it leaves out the point release of
 * CentOS and Debian, and CentOS 5 and 6, SUSE 11 and Debian 6 have files of their own.
 */
#include "checks/facts.h"

struct chk_root;

/* -ENOENT: no release file says what this is; *ret is filled with empty strings then. */
int chk_os_read(const struct chk_root *root, struct chk_mem *m, struct chk_os *ret,
		struct err *e) _must_check_;

/* The text of a release file, and where it came from; NULL: there is none. */
enum chk_release_file {
	CHK_RELEASE_OS, /* os-release */
	CHK_RELEASE_ORACLE,
	CHK_RELEASE_CENTOS,
	CHK_RELEASE_EULEROS,
	CHK_RELEASE_REDHAT,
	CHK_RELEASE_SYSTEM,
	CHK_RELEASE_SUSE,
	CHK_RELEASE_LSB,
	CHK_RELEASE_DEBIAN,
	CHK_RELEASE_FILES,
};

/* The same from texts that were read, of which any may be foreign bytes.  True: told. */
bool chk_os_parse(const char *const text[CHK_RELEASE_FILES], struct chk_mem *m,
		  struct chk_os *ret);

/*
 * The value of KEY=value in a text of such lines (os-release, lsb-release), unquoted;
 * "" when there is none.
 */
const char *chk_os_value(const char *text, const char *key, struct chk_mem *m);
