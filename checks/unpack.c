/* SPDX-License-Identifier: Apache-2.0 */
#include "checks/unpack.h"

#include <archive.h>
#include <errno.h>
#include <stdlib.h>

#define BLOCK_BYTES 65536

struct chk_unpack {
	struct archive *a;
};

static int failed(struct chk_unpack *u, struct err *e)
{
	const char *text = archive_error_string(u->a);

	return err_set(e, -EBADMSG, "%s", text ? text : "it cannot be uncompressed");
}

int chk_unpack_open(int fd, struct chk_unpack **ret, struct err *e)
{
	struct chk_unpack *u = calloc(1, sizeof(*u));
	struct archive_entry *entry;
	int r = 0;

	if (u)
		u->a = archive_read_new();
	if (!u || !u->a) {
		free(u);
		return err_set(e, -ENOMEM, "uncompress: out of memory");
	}
	/* By name: "all" would start programs for what the library cannot do itself. */
	archive_read_support_filter_gzip(u->a);
	archive_read_support_filter_bzip2(u->a);
	archive_read_support_filter_xz(u->a);
	archive_read_support_filter_lzma(u->a);
	archive_read_support_filter_zstd(u->a);
	archive_read_support_filter_lz4(u->a);
	archive_read_support_format_raw(u->a);
	archive_read_support_format_empty(u->a);
	if (archive_read_open_fd(u->a, fd, BLOCK_BYTES) != ARCHIVE_OK ||
	    archive_read_next_header(u->a, &entry) != ARCHIVE_OK)
		r = failed(u, e);
	else if (archive_filter_code(u->a, 0) == ARCHIVE_FILTER_NONE)
		r = err_set(e, -EMEDIUMTYPE, "it is compressed in a way that is not known here");
	if (r < 0) {
		chk_unpack_free(u);
		return r;
	}
	*ret = u;
	return 0;
}

ssize_t chk_unpack_read(struct chk_unpack *u, void *p, size_t n, struct err *e)
{
	la_ssize_t r = archive_read_data(u->a, p, n);

	return r < 0 ? failed(u, e) : (ssize_t)r;
}

void chk_unpack_free(struct chk_unpack *u)
{
	if (!u)
		return;
	archive_read_free(u->a);
	free(u);
}
