/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arbitrary frames against the receiver, in a directory of its own and without chroot(): it
 * must stay in there by itself.  Beside the directory lies a witness that no frame may touch.
 */
#include <ftw.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "common/buf.h"
#include "common/io.h"
#include "transport/frame.h"
#include "transport/receive/receive.h"
#include "transport/stream.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int rm_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static void make_tree(const char *dir, char *root, size_t max)
{
	char path[128];
	int fd;

	snprintf(root, max, "%s/root", dir);
	snprintf(path, sizeof(path), "%s/witness", dir);
	if (mkdir(root, 0700) < 0 || mkdir(path, 0700) < 0)
		__builtin_trap();
	snprintf(path, sizeof(path), "%s/root/out", dir);
	if (symlink("../witness", path) < 0)
		__builtin_trap();
	snprintf(path, sizeof(path), "%s/root/f", dir);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, "basis", 5) != 5)
		__builtin_trap();
	close(fd);
}

/* The preamble is right, the frames are the fuzzer's. */
static int conversation(const char *root, struct bytes frames)
{
	const struct tp_hello hello = { .version_min = TP_VERSION_MIN, .version_max = TP_VERSION_MAX, .idle_s = 1,
					.root = bytes_str(root) };
	struct buf all = BUF_INIT, wire = BUF_INIT;
	struct tp_pack *pack;
	int fd = memfd_create("input", MFD_CLOEXEC);

	if (fd < 0 || tp_pack_new(TP_LEVEL_OFF, &pack, NULL) < 0 ||
	    buf_put(&wire, TP_MAGIC, TP_MAGIC_BYTES) < 0 || tp_put_hello_d(&all, &hello) < 0 ||
	    buf_put_bytes(&all, frames) < 0 || tp_pack(pack, &all, true, &wire, NULL) < 0 ||
	    io_write_all(fd, buf_view(&wire).p, buf_len(&wire)) < 0 || lseek(fd, 0, SEEK_SET) < 0)
		__builtin_trap();
	tp_pack_free(pack);
	buf_fini(&all);
	buf_fini(&wire);
	return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct rcv_opts o = { .version = "fuzz", .confine = false };
	char dir[] = "/dev/shm/fuzz-receive-XXXXXX", root[64], witness[64];
	struct stat st;

	if (!mkdtemp(dir))
		return 0;
	make_tree(dir, root, sizeof(root));
	o.in_fd = conversation(root, bytes_of(data, size));
	o.out_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
	(void)rcv_serve(&o);
	close(o.in_fd);
	close(o.out_fd);
	if (chdir("/") < 0)
		__builtin_trap();
	/* Nothing was made in the witness, and it has what it had. */
	snprintf(witness, sizeof(witness), "%s/witness", dir);
	if (stat(witness, &st) < 0 || (st.st_mode & 07777) != 0700 || st.st_uid != geteuid() ||
	    rmdir(witness) < 0)
		__builtin_trap();
	nftw(dir, rm_one, 16, FTW_PHYS | FTW_DEPTH);
	return 0;
}
