/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each test is a conversation: the receiver runs in a child, confined to a directory of the
 * fixture, and is judged by what it answers and by what is in the file system then.
 */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/fs.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/buf.h"
#include "common/io.h"
#include "transport/blocks.h"
#include "transport/delta.h"
#include "transport/frame.h"
#include "transport/receive/receive.h"
#include "transport/stream.h"

#define NOBODY   65534
#define ANSWERS  256
#define WAIT_MS  20000

struct answer {
	uint8_t type, flags;
	uint16_t slot;
	uint64_t n;
	uint32_t error;
	char op[300];
	struct tp_hash_value hash; /* HASHED */
};

struct fixture {
	char dir[64];    /* holds root/ and outside/ */
	char root[96];
	pid_t pid;
	int fd;          /* of the conversation */
	struct buf out;  /* frames to send */
	struct buf wire, in;
	struct tp_pack *pack;
	struct tp_unpack *unpack;
	struct answer answers[ANSWERS];
	size_t count;
	struct buf listing; /* payloads of LISTING */
	uint32_t differs[ANSWERS]; /* what DIFFER said of completion n */
	char attributes[300];      /* of the last DIFFER */
	struct buf sig;
	struct tp_ready ready;
	bool magic;
};

/* --- the file system --- */

static const char *at(const struct fixture *f, const char *rel)
{
	static char path[4][512];
	static unsigned turn;
	char *p = path[turn++ % 4];

	snprintf(p, sizeof(path[0]), "%s/%s", f->root, rel);
	return p;
}

static int rm_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)ftw;
	if (S_ISREG(st->st_mode) || S_ISDIR(st->st_mode)) {
		int fd = open(path, O_RDONLY | O_NOFOLLOW), flags = 0;

		if (fd >= 0 && ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0 &&
		    flags & (FS_IMMUTABLE_FL | FS_APPEND_FL)) {
			flags &= ~(FS_IMMUTABLE_FL | FS_APPEND_FL);
			(void)!ioctl(fd, FS_IOC_SETFLAGS, &flags);
		}
		if (fd >= 0)
			close(fd);
	}
	(void)type;
	return 0;
}

static int rm_two(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static void put_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(io_write_all(fd, text, strlen(text)), 0);
	close(fd);
}

static void assert_content(const char *path, const char *text)
{
	struct buf b = BUF_INIT;

	assert_int_equal(io_read_file(AT_FDCWD, path, 1 << 20, &b, NULL), 0);
	assert_int_equal(buf_len(&b), strlen(text));
	if (buf_len(&b))
		assert_memory_equal(b.p, text, strlen(text));
	buf_fini(&b);
}

static struct stat look(const char *path)
{
	struct stat st;

	assert_int_equal(lstat(path, &st), 0);
	return st;
}

static bool exists(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0;
}

static bool am_root(void)
{
	return geteuid() == 0;
}

/* --- the conversation --- */

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	char outside[96];

	assert_non_null(f);
	f->fd = -1;
	strcpy(f->dir, "/var/tmp/receive-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	assert_int_equal(chmod(f->dir, 0755), 0);
	snprintf(f->root, sizeof(f->root), "%s/root", f->dir);
	snprintf(outside, sizeof(outside), "%s/outside", f->dir);
	assert_int_equal(mkdir(f->root, 0755), 0);
	assert_int_equal(mkdir(outside, 0755), 0);
	*state = f;
	return 0;
}

static void hang_up(struct fixture *f)
{
	if (f->fd >= 0)
		close(f->fd);
	f->fd = -1;
	tp_pack_free(f->pack);
	tp_unpack_free(f->unpack);
	f->pack = NULL;
	f->unpack = NULL;
	buf_clear(&f->out);
	buf_clear(&f->wire);
	buf_clear(&f->in);
	buf_clear(&f->listing);
	buf_clear(&f->sig);
	f->count = 0;
	f->magic = false;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	hang_up(f);
	nftw(f->dir, rm_one, 16, FTW_PHYS);
	nftw(f->dir, rm_two, 16, FTW_PHYS | FTW_DEPTH);
	buf_fini(&f->out);
	buf_fini(&f->wire);
	buf_fini(&f->in);
	buf_fini(&f->listing);
	buf_fini(&f->sig);
	free(f);
	return 0;
}

static void start_bare(struct fixture *f, uid_t uid)
{
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	f->pid = fork();
	assert_true(f->pid >= 0);
	if (f->pid == 0) {
		const struct rcv_opts o = {
			.in_fd = pair[1], .out_fd = pair[1], .version = "test", .confine = true
		};

		close(pair[0]);
		signal(SIGPIPE, SIG_IGN);
		if (uid && (setresgid(uid, uid, uid) < 0 || setresuid(uid, uid, uid) < 0))
			_exit(99);
		_exit(rcv_serve(&o));
	}
	close(pair[1]);
	f->fd = pair[0];
	assert_int_equal(tp_pack_new(TP_LEVEL_OFF, &f->pack, NULL), 0);
	assert_int_equal(tp_unpack_new(&f->unpack, NULL), 0);
	assert_int_equal(write(f->fd, TP_MAGIC, TP_MAGIC_BYTES), TP_MAGIC_BYTES);
}

static void put_hello(struct fixture *f, const char *root, uint32_t flags, uint32_t idle_s)
{
	const struct tp_hello m = {
		.version_min = TP_VERSION_MIN,
		.version_max = TP_VERSION_MAX,
		.features = TP_FEATURE_ZSTD,
		.flags = flags,
		.idle_s = idle_s,
		.root = bytes_str(root),
	};

	assert_int_equal(tp_put_hello_d(&f->out, &m), 0);
}

static void start(struct fixture *f)
{
	memset(f->differs, 0, sizeof(f->differs));
	start_bare(f, 0);
	put_hello(f, f->root, 0, 10);
}

static void take_frame(struct fixture *f, const struct tp_frame *frame)
{
	struct answer *a = &f->answers[f->count];
	struct tp_difference d;
	struct tp_refusal ref;
	struct bytes text;

	assert_true(f->count < ANSWERS);
	*a = (struct answer){ .type = frame->type, .flags = frame->flags, .slot = frame->slot };
	f->count++;
	switch (frame->type) {
	case TP_ACK:
	case TP_DURABLE:
		assert_int_equal(tp_get_number(frame, &a->n, NULL), 0);
		break;
	case TP_REFUSE:
	case TP_WARN:
		assert_int_equal(tp_get_refusal(frame, &ref, NULL), 0);
		a->n = ref.n;
		a->error = ref.error;
		snprintf(a->op, sizeof(a->op), "%.*s", (int)ref.operation.n, ref.operation.p);
		break;
	case TP_ABORT:
		assert_int_equal(tp_get_abort(frame, &a->error, &text, NULL), 0);
		snprintf(a->op, sizeof(a->op), "%.*s", (int)text.n, text.p);
		break;
	case TP_DIFFER:
		assert_int_equal(tp_get_difference(frame, &d, NULL), 0);
		assert_in_range(d.n, 1, ANSWERS - 1);
		f->differs[d.n] = d.what;
		if (d.attributes.n)
			snprintf(f->attributes, sizeof(f->attributes), "%.*s",
				 (int)d.attributes.n, d.attributes.p);
		break;
	case TP_LISTING:
		if (frame->flags & TP_F_LAST && frame->payload.n == 4)
			a->error = le32_get(frame->payload.p);
		else
			assert_int_equal(buf_put_bytes(&f->listing, frame->payload), 0);
		break;
	case TP_SIG:
		if (frame->flags & TP_F_ERROR)
			a->error = le32_get(frame->payload.p);
		else
			assert_int_equal(buf_put_bytes(&f->sig, frame->payload), 0);
		break;
	case TP_SUMS:
		assert_int_equal(tp_get_sums(frame, &a->error, &text, NULL), 0);
		assert_int_equal(buf_put_bytes(&f->sig, text), 0);
		break;
	case TP_HASHED:
		assert_int_equal(tp_get_hashed(frame, &a->error, &a->hash, NULL), 0);
		break;
	case TP_READY:
		assert_int_equal(tp_get_ready(frame, &f->ready, NULL), 0);
		break;
	default:
		break;
	}
}

static void take_answers(struct fixture *f)
{
	struct tp_frame frame;
	int r;

	if (!f->magic && buf_len(&f->wire) >= TP_MAGIC_BYTES) {
		assert_memory_equal(buf_view(&f->wire).p, TP_MAGIC, TP_MAGIC_BYTES);
		buf_consume(&f->wire, TP_MAGIC_BYTES);
		f->magic = true;
	}
	if (!f->magic)
		return;
	do {
		r = tp_unpack(f->unpack, &f->wire, buf_len(&f->in) + 1, &f->in, NULL);
		assert_true(r >= 0);
		while (tp_frame_peek(&f->in, &frame, NULL) == 1) {
			take_frame(f, &frame);
			buf_consume(&f->in, tp_frame_bytes(&frame));
		}
	} while (r == 1);
}

static size_t count_of(const struct fixture *f, uint8_t type)
{
	size_t n = 0;

	for (size_t i = 0; i < f->count; i++)
		n += f->answers[i].type == type;
	return n;
}

static const struct answer *answer_of(const struct fixture *f, uint8_t type)
{
	for (size_t i = f->count; i > 0; i--)
		if (f->answers[i - 1].type == type)
			return &f->answers[i - 1];
	return NULL;
}

/* Send what there is and read until a frame of this type (0: the end) has come. */
static void pump(struct fixture *f, uint8_t until)
{
	struct buf packed = BUF_INIT;
	size_t had = count_of(f, until);

	assert_int_equal(tp_pack(f->pack, &f->out, true, &packed, NULL), 0);
	while (!until || count_of(f, until) == had) {
		struct pollfd p = { .fd = f->fd, .events = POLLIN };
		ssize_t n;

		if (buf_len(&packed))
			p.events |= POLLOUT;
		assert_int_equal(poll(&p, 1, WAIT_MS), 1);
		if (p.revents & POLLOUT && buf_len(&packed)) {
			n = send(f->fd, buf_view(&packed).p, buf_len(&packed),
				 MSG_DONTWAIT | MSG_NOSIGNAL);
			if (n < 0 && errno == EPIPE)
				buf_clear(&packed);
			else if (n > 0)
				buf_consume(&packed, (size_t)n);
		}
		if (!(p.revents & (POLLIN | POLLHUP | POLLERR)))
			continue;
		assert_int_equal(buf_reserve(&f->wire, 65536), 0);
		n = read(f->fd, f->wire.p + f->wire.n, 65536);
		if (n <= 0) {
			assert_int_equal(until, 0);
			break;
		}
		f->wire.n += (size_t)n;
		take_answers(f);
	}
	buf_fini(&packed);
}

static int status(struct fixture *f)
{
	int st;

	assert_int_equal(waitpid(f->pid, &st, 0), f->pid);
	assert_true(WIFEXITED(st));
	return WEXITSTATUS(st);
}

/* To the end: the exit status.  The answers stay readable. */
static int finish(struct fixture *f)
{
	pump(f, 0);
	return status(f);
}

static void say_bye(struct fixture *f)
{
	assert_int_equal(tp_frame_put(&f->out, TP_BYE, 0, 0, bytes_of(NULL, 0)), 0);
}

/* All went well, with this many completions. */
static void assert_done(struct fixture *f, uint64_t n)
{
	const struct answer *a;

	say_bye(f);
	assert_int_equal(finish(f), RCV_EXIT_OK);
	for (size_t i = 0; i < f->count; i++)
		if (f->answers[i].type == TP_REFUSE || f->answers[i].type == TP_WARN)
			fail_msg("%llu: %s: %u", (unsigned long long)f->answers[i].n,
				 f->answers[i].op, f->answers[i].error);
	a = answer_of(f, TP_ACK);
	assert_non_null(a);
	assert_int_equal(a->n, n);
	hang_up(f);
}

/* The last of n completions was refused, the others were done. */
static void assert_refused(struct fixture *f, uint64_t n, uint32_t error)
{
	const struct answer *a;

	say_bye(f);
	assert_int_equal(finish(f), RCV_EXIT_OK);
	assert_int_equal(count_of(f, TP_REFUSE), 1);
	a = answer_of(f, TP_REFUSE);
	assert_int_equal(a->n, n);
	assert_int_equal(a->error, error);
	assert_int_equal(answer_of(f, TP_ACK)->n, n);
	hang_up(f);
}

static void put_dir(struct fixture *f, const char *path)
{
	assert_int_equal(tp_put_path(&f->out, TP_DIR, TP_F_CREATE, 0, bytes_str(path)), 0);
}

static struct tp_meta meta_of(mode_t mode)
{
	return (struct tp_meta){ .mode = mode,
				 .uid = geteuid(),
				 .gid = getegid(),
				 .mtime_s = 1500000000,
				 .mtime_ns = 123456789 };
}

static void put_entry(struct fixture *f, uint8_t type, uint8_t flags, uint16_t slot,
		      const char *name, struct tp_meta meta)
{
	struct tp_entry m = { .meta = meta, .name = bytes_str(name), .links = 1 };

	assert_int_equal(tp_put_entry(&f->out, type, flags, slot, &m), 0);
}

static void put_whole(struct fixture *f, const char *name, struct tp_meta meta, const char *text)
{
	struct tp_entry m = { .meta = meta, .name = bytes_str(name), .content = bytes_str(text) };

	m.meta.size = strlen(text);
	assert_int_equal(tp_put_entry(&f->out, TP_FILE, 0, 0, &m), 0);
}

static void put_close(struct fixture *f, uint16_t slot, const void *content, size_t n)
{
	struct tp_hash_value v;
	struct tp_hash *h;

	assert_int_equal(tp_hash_new(&h, NULL), 0);
	tp_hash_content(h, content, n, &v);
	tp_hash_free(h);
	assert_int_equal(tp_put_close(&f->out, slot, n, &v), 0);
}

/* --- tests --- */

static void a_whole_file_arrives_with_all_its_metadata(void **state)
{
	/* VFS_CAP_REVISION_2, cap_net_raw+ep */
	static const uint8_t capability[20] = { 1, 0, 0, 2, 0, 0x20 };
	/* u::rw- u:1000:r-- g::r-- m::r-- o::--- */
	static const uint8_t acl[] = {
		2, 0, 0, 0, 1, 0, 6, 0, 0xff, 0xff, 0xff, 0xff, 2, 0, 4, 0, 0xe8, 3, 0, 0,
		4, 0, 4, 0, 0xff, 0xff, 0xff, 0xff, 16, 0, 4, 0, 0xff, 0xff, 0xff, 0xff,
		32, 0, 0, 0, 0xff, 0xff, 0xff, 0xff,
	};
	struct buf want = BUF_INIT, got = BUF_INIT;
	struct fixture *f = *state;
	struct tp_meta meta = meta_of(S_IFREG | 04640);
	char model[128];
	struct stat st;
	int fd;

	if (!am_root())
		skip();
	snprintf(model, sizeof(model), "%s/outside/model", f->dir);
	put_file(model, "x");
	assert_int_equal(setxattr(model, "user.colour", "blue", 4, 0), 0);
	assert_int_equal(setxattr(model, "trusted.t", "1", 1, 0), 0);
	assert_int_equal(setxattr(model, "security.capability", capability, 20, 0), 0);
	assert_int_equal(setxattr(model, "system.posix_acl_access", acl, sizeof(acl), 0), 0);
	fd = open(model, O_RDONLY);
	assert_int_equal(tp_xattrs_read(fd, NULL, &want, NULL), 0);
	close(fd);
	assert_true(buf_len(&want) > 60);
	meta.uid = 1234;
	meta.gid = 4321;
	meta.xattrs = buf_view(&want);
	start(f);
	put_dir(f, "a/b");
	put_whole(f, "file", meta, "hello");
	assert_done(f, 1);
	assert_content(at(f, "a/b/file"), "hello");
	st = look(at(f, "a/b/file"));
	assert_int_equal(st.st_mode, S_IFREG | 04640);
	assert_int_equal(st.st_uid, 1234);
	assert_int_equal(st.st_gid, 4321);
	assert_int_equal(st.st_mtim.tv_sec, 1500000000);
	assert_int_equal(st.st_mtim.tv_nsec, 123456789);
	fd = open(at(f, "a/b/file"), O_RDONLY);
	assert_int_equal(tp_xattrs_read(fd, NULL, &got, NULL), 0);
	close(fd);
	assert_true(bytes_eq(buf_view(&want), buf_view(&got)));
	buf_fini(&want);
	buf_fini(&got);
}

/* The first file of a directory tells the receiver how they are born there. */
static void further_files_of_a_directory_are_like_the_first(void **state)
{
	static const struct {
		const char *name;
		mode_t mode;
		uid_t uid;
		gid_t gid;
	} rows[] = {
		{ "first", 0640, 0, 0 }, { "same", 0664, 0, 0 }, { "unwritable", 0400, 0, 0 },
		{ "none", 0, 0, 0 }, { "user's", 06754, 1234, 4321 }, { "group's", 0660, 0, 4321 },
		{ "first", 0604, 1234, 0 }, { "dangling", 0600, 0, 0 }, { "empty-dir", 0600, 0, 0 },
	};
	struct fixture *f = *state;
	struct stat st;

	if (!am_root())
		skip();
	assert_int_equal(symlink("nowhere", at(f, "dangling")), 0);
	assert_int_equal(mkdir(at(f, "empty-dir"), 0755), 0);
	start(f);
	put_dir(f, "");
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct tp_meta meta = meta_of(S_IFREG | rows[i].mode);

		meta.uid = rows[i].uid;
		meta.gid = rows[i].gid;
		put_whole(f, rows[i].name, meta, rows[i].name);
	}
	assert_done(f, sizeof(rows) / sizeof(rows[0]));
	for (size_t i = 1; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_content(at(f, rows[i].name), rows[i].name);
		st = look(at(f, rows[i].name));
		assert_int_equal(st.st_mode, S_IFREG | rows[i].mode);
		assert_int_equal(st.st_uid, rows[i].uid);
		assert_int_equal(st.st_gid, rows[i].gid);
		assert_int_equal(st.st_mtim.tv_nsec, 123456789);
	}
}

/* Another session may be the one that sets the directory's metadata. */
static void a_directory_that_changed_is_looked_at_when_it_is_entered(void **state)
{
	struct fixture *f = *state;
	struct tp_meta meta = meta_of(S_IFREG | 0640);

	if (!am_root())
		skip();
	start(f);
	put_dir(f, "d");
	put_whole(f, "one", meta, "1");
	pump(f, TP_ACK);
	assert_int_equal(chown(at(f, "d"), 0, 4321), 0);
	assert_int_equal(chmod(at(f, "d"), 02775), 0);
	put_dir(f, "d");
	put_whole(f, "two", meta, "2");
	assert_done(f, 2);
	assert_int_equal(look(at(f, "d/two")).st_gid, 0);
	assert_int_equal(look(at(f, "d/two")).st_mode, S_IFREG | 0640);
}

static void a_file_without_room_leaves_nothing(void **state)
{
	static const char big[10000] = { [0 ... sizeof(big) - 2] = 'x' };
	const struct rlimit small = { .rlim_cur = 4096, .rlim_max = RLIM_INFINITY };
	const struct rlimit none = { .rlim_cur = RLIM_INFINITY, .rlim_max = RLIM_INFINITY };
	struct fixture *f = *state;

	put_file(at(f, "old"), "old");
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	start(f);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
	put_dir(f, "");
	put_whole(f, "first", meta_of(S_IFREG | 0600), "1");
	put_whole(f, "new", meta_of(S_IFREG | 0600), big);
	put_whole(f, "old", meta_of(S_IFREG | 0600), big);
	put_whole(f, "last", meta_of(S_IFREG | 0600), "2");
	say_bye(f);
	assert_int_equal(finish(f), RCV_EXIT_OK);
	assert_int_equal(count_of(f, TP_REFUSE), 2);
	assert_int_equal(answer_of(f, TP_REFUSE)->error, EFBIG);
	assert_content(at(f, "old"), "old");
	assert_content(at(f, "last"), "2");
	assert_int_equal(remove(at(f, "old")), 0);
	assert_int_equal(remove(at(f, "first")), 0);
	assert_int_equal(remove(at(f, "last")), 0);
	assert_int_equal(rmdir(f->root), 0); /* nothing else was there */
}

static const struct {
	const char *name;
	mode_t mode;
	const char *target;
} kinds[] = {
	{ "link", S_IFLNK | 0777, "some/where" },
	{ "fifo", S_IFIFO | 0640, NULL },
	{ "socket", S_IFSOCK | 0600, NULL },
	{ "chr", S_IFCHR | 0620, NULL },
	{ "blk", S_IFBLK | 0660, NULL },
	{ "empty", S_IFREG | 0444, NULL },
};

static struct tp_meta kind_meta(size_t i)
{
	struct tp_meta meta = meta_of(kinds[i].mode);

	if (kinds[i].target)
		meta.target = bytes_str(kinds[i].target);
	if (S_ISCHR(meta.mode) || S_ISBLK(meta.mode)) {
		meta.rdev_major = 250;
		meta.rdev_minor = 70000;
	}
	if (am_root())
		meta.uid = meta.gid = 77;
	return meta;
}

static bool kind_possible(size_t i)
{
	return am_root() || !(S_ISCHR(kinds[i].mode) || S_ISBLK(kinds[i].mode));
}

static void assert_kind(const char *path, size_t i)
{
	struct tp_meta want = kind_meta(i);
	struct stat st = look(path);
	char target[64] = "";

	assert_int_equal(st.st_mode, want.mode);
	assert_int_equal(st.st_uid, want.uid);
	assert_int_equal(st.st_mtim.tv_nsec, want.mtime_ns);
	if (want.rdev_major)
		assert_int_equal(st.st_rdev, makedev(want.rdev_major, want.rdev_minor));
	if (kinds[i].target) {
		assert_true(readlink(path, target, sizeof(target) - 1) > 0);
		assert_string_equal(target, kinds[i].target);
	}
}

static void entries_of_every_type_are_made_and_then_left_alone(void **state)
{
	struct timespec ctimes[ARRAY_SIZE(kinds)];
	struct fixture *f = *state;

	for (int round = 0; round < 2; round++) {
		uint64_t n = 0;

		start(f);
		put_dir(f, "");
		for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
			if (!kind_possible(i))
				continue;
			put_entry(f, TP_ENTRY, 0, 0, kinds[i].name, kind_meta(i));
			n++;
		}
		assert_done(f, n);
		for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
			struct stat st;

			if (!kind_possible(i))
				continue;
			assert_kind(at(f, kinds[i].name), i);
			st = look(at(f, kinds[i].name));
			if (round)
				assert_memory_equal(&ctimes[i], &st.st_ctim, sizeof(st.st_ctim));
			ctimes[i] = st.st_ctim;
		}
		usleep(20000);
	}
}

static void any_type_replaces_any_other(void **state)
{
	struct fixture *f = *state;

	for (size_t was = 0; was <= ARRAY_SIZE(kinds); was++) {
		for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
			uint64_t n = 1;

			if (!kind_possible(i) || (was < ARRAY_SIZE(kinds) && !kind_possible(was)))
				continue;
			remove(at(f, "x"));
			start(f);
			put_dir(f, "");
			if (was == ARRAY_SIZE(kinds)) /* an empty directory */
				assert_int_equal(mkdir(at(f, "x"), 0700), 0);
			else {
				put_entry(f, TP_ENTRY, 0, 0, "x", kind_meta(was));
				n++;
			}
			put_entry(f, TP_ENTRY, 0, 0, "x", kind_meta(i));
			assert_done(f, n);
			assert_kind(at(f, "x"), i);
		}
	}
}

static void a_directory_replaces_what_is_in_its_way(void **state)
{
	struct fixture *f = *state;

	put_file(at(f, "a"), "a file");
	start(f);
	put_dir(f, "a/b");
	put_whole(f, "new", meta_of(S_IFREG | 0600), "1");
	assert_done(f, 1);
	assert_content(at(f, "a/b/new"), "1");
}

static void a_full_directory_is_not_replaced(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(mkdir(at(f, "d"), 0755), 0);
	put_file(at(f, "d/keep"), "me");
	start(f);
	put_dir(f, "");
	put_whole(f, "d", meta_of(S_IFREG | 0600), "1");
	assert_refused(f, 1, TP_E_BLOCKED);
	start(f);
	put_dir(f, "");
	put_entry(f, TP_ENTRY, 0, 0, "d", kind_meta(0));
	assert_refused(f, 1, TP_E_BLOCKED);
	assert_content(at(f, "d/keep"), "me");
}

static void links_below_the_root_are_never_followed(void **state)
{
	char outside[128], leak[160];
	struct fixture *f = *state;

	snprintf(outside, sizeof(outside), "%s/outside", f->dir);
	snprintf(leak, sizeof(leak), "%s/x", outside);
	assert_int_equal(symlink(outside, at(f, "link")), 0);
	/* Without CREATE it cannot be entered, */
	start(f);
	assert_int_equal(tp_put_path(&f->out, TP_DIR, 0, 0, bytes_str("link")), 0);
	put_whole(f, "x", meta_of(S_IFREG | 0600), "1");
	say_bye(f);
	assert_int_equal(finish(f), RCV_EXIT_OK);
	assert_int_equal(count_of(f, TP_REFUSE), 1);
	hang_up(f);
	assert_false(exists(leak));
	/* with it, it is replaced; */
	start(f);
	put_dir(f, "link/x");
	put_whole(f, "y", meta_of(S_IFREG | 0600), "1");
	assert_done(f, 1);
	assert_false(exists(leak));
	assert_true(S_ISDIR(look(at(f, "link")).st_mode));
	/* and a file of the name of a link takes its place. */
	put_file(leak, "theirs");
	assert_int_equal(symlink(leak, at(f, "l2")), 0);
	start(f);
	put_dir(f, "");
	put_whole(f, "l2", meta_of(S_IFREG | 0600), "ours");
	assert_done(f, 1);
	assert_content(leak, "theirs");
	assert_content(at(f, "l2"), "ours");
}

static void our_own_directory_is_out_of_bounds(void **state)
{
	const struct tp_link_msg link = { .dir = bytes_str(TP_OWN_DIR),
					  .from = bytes_str("f"),
					  .name = bytes_str("g") };
	struct fixture *f = *state;

	assert_int_equal(mkdir(at(f, TP_OWN_DIR), 0700), 0);
	put_file(at(f, TP_OWN_DIR "/f"), "own");
	start(f);
	put_dir(f, "");
	put_whole(f, TP_OWN_DIR, meta_of(S_IFREG | 0600), "1");
	put_entry(f, TP_ENTRY, 0, 0, TP_OWN_DIR, kind_meta(0));
	put_entry(f, TP_META, 0, 0, TP_OWN_DIR, kind_meta(0));
	assert_int_equal(tp_put_remove(&f->out, TP_F_DIRECTORY, bytes_str(TP_OWN_DIR)), 0);
	assert_int_equal(tp_put_link(&f->out, &link), 0);
	put_entry(f, TP_DIRMETA, 0, 0, TP_OWN_DIR, meta_of(S_IFDIR | 0777));
	put_entry(f, TP_OPEN, 0, 3, TP_OWN_DIR, meta_of(S_IFREG | 0600));
	put_close(f, 3, "", 0);
	put_dir(f, TP_OWN_DIR "/x");
	put_whole(f, "f", meta_of(S_IFREG | 0600), "1");
	say_bye(f);
	assert_int_equal(finish(f), RCV_EXIT_OK);
	assert_int_equal(count_of(f, TP_REFUSE), 8);
	for (size_t i = 0; i < f->count; i++)
		if (f->answers[i].type == TP_REFUSE)
			assert_int_equal(f->answers[i].error, EPERM);
	assert_true(f->ready.flags & TP_R_EMPTY);
	assert_content(at(f, TP_OWN_DIR "/f"), "own");
}

static void hard_links_are_made_and_recognised(void **state)
{
	const struct tp_link_msg m = { .dir = bytes_str("a"),
				       .from = bytes_str("one"),
				       .name = bytes_str("two") };
	struct fixture *f = *state;
	struct stat st;

	start(f);
	put_dir(f, "a");
	put_whole(f, "one", meta_of(S_IFREG | 0600), "1");
	put_dir(f, "b");
	put_whole(f, "two", meta_of(S_IFREG | 0600), "other");
	assert_int_equal(tp_put_link(&f->out, &m), 0);
	assert_done(f, 3);
	st = look(at(f, "a/one"));
	assert_int_equal(st.st_nlink, 2);
	assert_int_equal(st.st_ino, look(at(f, "b/two")).st_ino);
	usleep(20000);
	start(f);
	put_dir(f, "b");
	assert_int_equal(tp_put_link(&f->out, &m), 0);
	assert_done(f, 1);
	assert_int_equal(st.st_ctim.tv_nsec, look(at(f, "a/one")).st_ctim.tv_nsec);
}

static void names_are_moved_but_never_over_others(void **state)
{
	const struct tp_link_msg file = { .dir = bytes_str("a"),
					  .from = bytes_str("one"),
					  .name = bytes_str("two") };
	const struct tp_link_msg dir = { .dir = bytes_str(""),
					 .from = bytes_str("a"),
					 .name = bytes_str("c") };
	const struct tp_link_msg own = { .dir = bytes_str(""),
					 .from = bytes_str(TP_OWN_DIR),
					 .name = bytes_str("own") };
	struct fixture *f = *state;
	ino_t ino;

	start(f);
	put_dir(f, "a");
	put_whole(f, "one", meta_of(S_IFREG | 0600), "1");
	put_dir(f, "b");
	put_whole(f, "taken", meta_of(S_IFREG | 0600), "other");
	assert_done(f, 2);
	ino = look(at(f, "a/one")).st_ino;

	start(f);
	put_dir(f, "b");
	assert_int_equal(tp_put_move(&f->out, &file), 0);
	put_dir(f, "a");
	put_whole(f, "kept", meta_of(S_IFREG | 0600), "k");
	put_dir(f, "b");
	assert_int_equal(tp_put_move(&f->out, &dir), 0);
	/* What the receiver held open is somewhere else now: it looks again when told so. */
	assert_int_equal(tp_put_path(&f->out, TP_DIR, TP_F_CREATE | TP_F_AFRESH, 0,
				     bytes_str("b/c")), 0);
	put_whole(f, "late", meta_of(S_IFREG | 0600), "l");
	assert_done(f, 4);
	assert_int_equal(look(at(f, "b/two")).st_ino, ino);
	assert_content(at(f, "b/c/kept"), "k");
	assert_content(at(f, "b/c/late"), "l");
	assert_int_not_equal(access(at(f, "a"), F_OK), 0);

	start(f);
	put_dir(f, "b");
	const struct tp_link_msg over = { .dir = bytes_str("b"),
					  .from = bytes_str("two"),
					  .name = bytes_str("taken") };
	assert_int_equal(tp_put_move(&f->out, &over), 0);
	assert_int_equal(tp_put_move(&f->out, &own), 0);
	assert_int_equal(tp_put_move(&f->out, &file), 0);
	say_bye(f);
	assert_int_equal(finish(f), RCV_EXIT_OK);
	assert_int_equal(count_of(f, TP_REFUSE), 3);
	assert_content(at(f, "b/taken"), "other");
	assert_content(at(f, "b/two"), "1");
}

/* Look at a file that should have this content and so many bytes of holes. */
static void put_check(struct fixture *f, const char *name, struct tp_meta meta, const char *text,
		      uint64_t hole_bytes)
{
	struct tp_entry m = { .meta = meta, .name = bytes_str(name), .links = 1,
			      .hole_bytes = hole_bytes, .holes = hole_bytes != 0 };
	struct tp_hash *h;

	m.meta.size = meta.size ? meta.size : strlen(text);
	assert_int_equal(tp_hash_new(&h, NULL), 0);
	tp_hash_update(h, 0, text, strlen(text));
	tp_hash_final(h, m.meta.size, &m.hash);
	tp_hash_free(h);
	assert_int_equal(tp_put_entry(&f->out, TP_CHECK, TP_F_HASH, 0, &m), 0);
}

/* Every way in which an entry can differ is told, and nothing is changed by looking. */
static void checks_name_what_differs(void **state)
{
	struct fixture *f = *state;
	struct tp_meta reg = meta_of(S_IFREG | 0640), link = meta_of(S_IFLNK | 0777);
	struct tp_meta dir = meta_of(S_IFDIR | 0755), fifo = meta_of(S_IFIFO | 0600), other;
	struct stat before, after;

	link.target = bytes_str("f");
	start(f);
	put_dir(f, "d");
	put_whole(f, "f", reg, "text");
	put_entry(f, TP_ENTRY, 0, 0, "l", link);
	put_entry(f, TP_ENTRY, 0, 0, "p", fifo);
	assert_done(f, 3);
	before = look(at(f, "d/f"));
	usleep(20000);

	start(f);
	put_dir(f, "d");
	put_check(f, "f", reg, "text", 0);          /* 1: as it is */
	put_check(f, "f", reg, "TEXT", 0);
	put_check(f, "f", reg, "longer", 0);
	other = reg;
	other.mode = S_IFREG | 0600;
	other.mtime_ns++;
	put_check(f, "f", other, "text", 0);
	put_check(f, "gone", reg, "text", 0);       /* 5 */
	put_entry(f, TP_CHECK, 0, 0, "l", link);
	link.target = bytes_str("elsewhere");
	put_entry(f, TP_CHECK, 0, 0, "l", link);
	put_check(f, "l", reg, "text", 0);
	put_entry(f, TP_CHECK, 0, 0, "p", fifo);
	put_entry(f, TP_CHECK, 0, 0, "f", fifo);    /* 10 */
	other = reg;
	other.size = 99;
	other.mtime_s++;
	put_entry(f, TP_CHECK, TP_F_LIVE, 0, "f", other);
	other.mode = S_IFREG | 0604;
	put_entry(f, TP_CHECK, TP_F_LIVE, 0, "f", other);
	put_entry(f, TP_CHECK, TP_F_PATH, 0, "nowhere", dir);
	assert_int_equal(tp_put_path(&f->out, TP_DIR, 0, 0, bytes_str("f/x")), 0);
	put_check(f, "f", reg, "text", 0);
	say_bye(f);
	assert_int_equal(finish(f), RCV_EXIT_OK);
	assert_int_equal(count_of(f, TP_REFUSE), 0);
	assert_int_equal(answer_of(f, TP_ACK)->n, 14);
	assert_int_equal(f->differs[1], 0);
	assert_int_equal(f->differs[2], TP_D_CONTENT);
	assert_int_equal(f->differs[3], TP_D_SIZE);
	assert_int_equal(f->differs[4], TP_D_MODE | TP_D_MTIME);
	assert_int_equal(f->differs[5], TP_D_MISSING);
	assert_int_equal(f->differs[6], 0);
	assert_int_equal(f->differs[7], TP_D_TARGET);
	assert_int_equal(f->differs[8], TP_D_TYPE);
	assert_int_equal(f->differs[9], 0);
	assert_int_equal(f->differs[10], TP_D_TYPE);
	assert_int_equal(f->differs[11], 0);
	assert_int_equal(f->differs[12], TP_D_MODE);
	assert_int_equal(f->differs[13], TP_D_MISSING);
	assert_int_equal(f->differs[14], TP_D_MISSING);
	hang_up(f);
	after = look(at(f, "d/f"));
	assert_int_equal(before.st_ctim.tv_sec, after.st_ctim.tv_sec);
	assert_int_equal(before.st_ctim.tv_nsec, after.st_ctim.tv_nsec);
	assert_int_equal(before.st_atim.tv_nsec, after.st_atim.tv_nsec);
	assert_false(exists(at(f, "gone")));
	assert_false(exists(at(f, "nowhere")));
}

static void checks_know_attributes_holes_and_links(void **state)
{
	struct tp_link_msg pair = { bytes_str(""), bytes_str("f"), bytes_str("g"), 2 };
	struct fixture *f = *state;
	struct tp_meta reg = meta_of(S_IFREG | 0644);
	static char zeros[(1 << 20) - 4];
	int fd;

	start(f);
	put_dir(f, "");
	put_whole(f, "f", reg, "text");
	put_whole(f, "g", reg, "text");
	assert_done(f, 2);
	put_file(at(f, "dense"), "text");
	fd = open(at(f, "dense"), O_WRONLY | O_APPEND);
	assert_true(fd >= 0);
	assert_int_equal(io_write_all(fd, zeros, sizeof(zeros)), 0);
	close(fd);
	if (setxattr(at(f, "f"), "user.one", "1", 1, 0) < 0)
		skip();
	fd = open(at(f, "sparse"), O_RDWR | O_CREAT | O_EXCL, 0644);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, "text", 4), 4);
	assert_int_equal(ftruncate(fd, 1 << 20), 0);
	assert_int_equal(fsync(fd), 0);
	close(fd);

	start(f);
	put_dir(f, "");
	put_check(f, "f", reg, "text", 0);
	/* One name is not the other, and then it is. */
	assert_int_equal(tp_put_checklink(&f->out, &pair), 0);
	pump(f, TP_ACK);
	assert_int_equal(f->differs[1], TP_D_XATTR);
	assert_string_equal(f->attributes, "user.one");
	assert_int_equal(f->differs[2], TP_D_LINKS);
	assert_int_equal(unlink(at(f, "g")), 0);
	assert_int_equal(link(at(f, "f"), at(f, "g")), 0);
	assert_int_equal(tp_put_checklink(&f->out, &pair), 0);
	put_check(f, "f", reg, "text", 0);
	pair.links = 1;
	assert_int_equal(tp_put_checklink(&f->out, &pair), 0);
	pair.name = bytes_str("missing");
	assert_int_equal(tp_put_checklink(&f->out, &pair), 0);
	/* A hole that is there, and one that is not. */
	reg.size = 1 << 20;
	put_check(f, "sparse", reg, "text", (1 << 20) - 4096);
	put_check(f, "dense", reg, "text", (1 << 20) - 4096);
	say_bye(f);
	assert_int_equal(finish(f), RCV_EXIT_OK);
	assert_int_equal(f->differs[3], 0);
	assert_int_equal(f->differs[4], TP_D_XATTR | TP_D_LINKS);
	assert_int_equal(f->differs[5], TP_D_LINKS);
	assert_int_equal(f->differs[7] & (TP_D_HOLES | TP_D_CONTENT), 0);
	assert_int_equal(f->differs[8] & (TP_D_HOLES | TP_D_CONTENT), TP_D_HOLES);
	assert_int_equal(count_of(f, TP_REFUSE), 1);
	assert_int_equal(answer_of(f, TP_REFUSE)->n, 6);
	assert_int_equal(answer_of(f, TP_REFUSE)->error, ENOENT);
	hang_up(f);
}

static void holes_stay_holes(void **state)
{
	static uint8_t content[5 << 20];
	struct fixture *f = *state;
	struct stat st;
	int fd;

	memset(content, 'a', 65536);
	memset(content + (4 << 20), 'b', 65536);
	start(f);
	put_dir(f, "");
	put_entry(f, TP_OPEN, 0, 1, "sparse", meta_of(S_IFREG | 0600));
	assert_int_equal(tp_put_data(&f->out, 1, 0, bytes_of(content, 65536)), 0);
	/* A range that was written first is punched, */
	assert_int_equal(tp_put_data(&f->out, 1, 1 << 20, bytes_of(content, 65536)), 0);
	assert_int_equal(tp_put_hole(&f->out, 1, 65536, (4 << 20) - 65536), 0);
	assert_int_equal(tp_put_data(&f->out, 1, 4 << 20, bytes_of(content + (4 << 20), 65536)), 0);
	put_close(f, 1, content, sizeof(content));
	assert_done(f, 1);
	fd = open(at(f, "sparse"), O_RDONLY);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, sizeof(content));
	assert_int_equal(lseek(fd, 0, SEEK_HOLE), 65536);
	assert_int_equal(lseek(fd, 65536, SEEK_DATA), 4 << 20);
	assert_int_equal(lseek(fd, 4 << 20, SEEK_HOLE), (4 << 20) + 65536);
	close(fd);
}

static void pieces_in_any_order_are_hashed_right(void **state)
{
	static uint8_t content[3 * 8192];
	struct fixture *f = *state;

	for (size_t i = 0; i < sizeof(content); i++)
		content[i] = (uint8_t)(i >> 4);
	start(f);
	put_dir(f, "");
	put_entry(f, TP_OPEN, 0, 1, "x", meta_of(S_IFREG | 0600));
	for (size_t i = 3; i > 0; i--)
		assert_int_equal(tp_put_data(&f->out, 1, (i - 1) * 8192,
					     bytes_of(content + (i - 1) * 8192, 8192)), 0);
	put_close(f, 1, content, sizeof(content));
	assert_done(f, 1);
	assert_int_equal(look(at(f, "x")).st_size, sizeof(content));
}

static void content_that_differs_from_its_hash_is_dropped(void **state)
{
	struct fixture *f = *state;

	put_file(at(f, "x"), "old");
	start(f);
	put_dir(f, "");
	put_entry(f, TP_OPEN, 0, 1, "x", meta_of(S_IFREG | 0600));
	assert_int_equal(tp_put_data(&f->out, 1, 0, bytes_str("new")), 0);
	put_close(f, 1, "nEw", 3);
	assert_refused(f, 1, TP_E_MISMATCH);
	assert_content(at(f, "x"), "old");
}

static void a_dropped_file_leaves_nothing(void **state)
{
	struct fixture *f = *state;

	start(f);
	put_dir(f, "");
	put_entry(f, TP_OPEN, 0, 1, "x", meta_of(S_IFREG | 0600));
	assert_int_equal(tp_put_data(&f->out, 1, 0, bytes_str("new")), 0);
	assert_int_equal(tp_frame_put(&f->out, TP_DROP, 0, 1, bytes_of(NULL, 0)), 0);
	put_entry(f, TP_OPEN, 0, 1, "y", meta_of(S_IFREG | 0600));
	put_close(f, 1, "", 0);
	assert_done(f, 1);
	assert_false(exists(at(f, "x")));
	assert_true(exists(at(f, "y")));
}

/* --- segments --- */

#define TEMP ".stager-tmp.00000000000000ab.1"
#define LEAF ((uint64_t)TP_LEAF_BYTES)

static void put_segment(struct fixture *f, uint16_t slot, uint8_t flags, uint64_t size,
			uint64_t off, uint64_t n)
{
	struct tp_range m = { .size = size, .off = off, .bytes = n, .name = bytes_str(TEMP),
			      .basis = bytes_str("old") };

	assert_int_equal(tp_put_segment(&f->out, flags, slot, &m), 0);
}

static void put_data_at(struct fixture *f, uint16_t slot, uint64_t off, const void *p, size_t n)
{
	assert_int_equal(tp_put_data(&f->out, slot, off, bytes_of(p, n)), 0);
}

/* The whole segment in one go. */
static void put_segment_whole(struct fixture *f, uint8_t flags, uint64_t size, uint64_t off,
			      const void *p, size_t n)
{
	put_segment(f, 5, flags, size, off, n);
	put_data_at(f, 5, off, p, n);
	put_close(f, 5, p, n);
}

static void put_finish(struct fixture *f, const char *name, uint8_t flags, uint64_t size)
{
	struct tp_entry m = { .meta = meta_of(S_IFREG | 0640), .name = bytes_str(name),
			      .temp = bytes_str(TEMP) };

	m.meta.size = size;
	assert_int_equal(tp_put_entry(&f->out, TP_FINISH, flags, 0, &m), 0);
}

static void a_big_file_is_put_together_by_several_receivers(void **state)
{
	_cleanup_free_ uint8_t *p = malloc(TP_DATA_MAX);
	struct fixture *f = *state;
	uint64_t size = 2 * LEAF + 5000;
	struct stat st;
	uint8_t got[5000];
	int fd;

	memset(p, 'x', TP_DATA_MAX);
	put_file(at(f, "name"), "old");
	/* The end first, by a process of its own. */
	start(f);
	put_dir(f, "");
	put_segment_whole(f, TP_F_CREATE, size, 2 * LEAF, p, 5000);
	assert_done(f, 1);
	st = look(at(f, TEMP));
	assert_int_equal(st.st_mode, S_IFREG | 0600);
	assert_content(at(f, "name"), "old");

	start(f);
	put_dir(f, "");
	put_segment(f, 7, 0, size, 0, LEAF);
	put_data_at(f, 7, 4096, p, 8192);
	assert_int_equal(tp_put_hole(&f->out, 7, 12288, LEAF - 12288), 0);
	memset(p, 0, 4096);
	/* Its hash is that of a leaf, and so is that of the one that is left out. */
	{
		_cleanup_free_ uint8_t *leaf = calloc(1, LEAF);

		memset(leaf + 4096, 'x', 8192);
		put_close(f, 7, leaf, LEAF);
	}
	put_finish(f, "name", 0, size);
	assert_done(f, 2);
	st = look(at(f, "name"));
	assert_int_equal(st.st_size, size);
	assert_int_equal(st.st_mode, S_IFREG | 0640);
	assert_int_equal(st.st_mtim.tv_nsec, 123456789);
	assert_true(st.st_blocks * 512 < 1 << 20);
	assert_false(exists(at(f, TEMP)));
	fd = open(at(f, "name"), O_RDONLY | O_CLOEXEC);
	assert_int_equal(pread(fd, got, 5000, (off_t)(2 * LEAF)), 5000);
	assert_true(got[0] == 'x' && got[4999] == 'x');
	close(fd);
}

/* Nothing of what came before is left, neither content nor storage. */
static void a_segment_that_is_sent_again_replaces_itself(void **state)
{
	static uint8_t full[65536], sparse[65536];
	struct fixture *f = *state;

	memset(full, 'f', sizeof(full));
	memset(sparse, 's', 4096);
	start(f);
	put_dir(f, "");
	put_segment_whole(f, TP_F_CREATE, 65536, 0, full, 65536);
	put_segment(f, 1, 0, 65536, 0, 65536);
	put_data_at(f, 1, 0, sparse, 4096);
	put_close(f, 1, sparse, 65536);
	/* Dropped in the middle, and begun again. */
	put_segment(f, 1, 0, 65536, 0, 65536);
	put_data_at(f, 1, 0, full, 60000);
	assert_int_equal(tp_frame_put(&f->out, TP_DROP, 0, 1, bytes_of(NULL, 0)), 0);
	put_segment(f, 1, 0, 65536, 0, 65536);
	put_data_at(f, 1, 0, sparse, 4096);
	put_close(f, 1, sparse, 65536);
	put_finish(f, "x", 0, 65536);
	assert_done(f, 4);
	assert_int_equal(look(at(f, "x")).st_blocks, 8);
}

static void segments_copy_from_the_old_file(void **state)
{
	struct fixture *f = *state;

	put_file(at(f, "old"), "0123456789");
	start(f);
	put_dir(f, "");
	put_segment(f, 1, TP_F_CREATE | TP_F_COPIES, 9, 0, 9);
	assert_int_equal(tp_put_copy(&f->out, 1, &(struct tp_copy){ 0, 5, 3 }), 0);
	put_data_at(f, 1, 3, "new", 3);
	assert_int_equal(tp_put_copy(&f->out, 1, &(struct tp_copy){ 6, 0, 3 }), 0);
	put_close(f, 1, "567new012", 9);
	put_finish(f, "x", 0, 9);
	assert_done(f, 2);
	assert_content(at(f, "x"), "567new012");

	start(f);
	put_dir(f, "");
	put_segment(f, 1, TP_F_CREATE | TP_F_COPIES, 9, 0, 9);
	assert_int_equal(tp_put_copy(&f->out, 1, &(struct tp_copy){ 0, 5, 6 }), 0);
	put_close(f, 1, "567890123", 9);
	assert_refused(f, 1, TP_E_MISMATCH);
}

/* What has the temporary name must be ours, and it must be there. */
static void a_temporary_name_is_not_trusted(void **state)
{
	struct fixture *f = *state;

	for (int i = 0; i < 5; i++) {
		put_file(at(f, "victim"), "keep");
		if (i == 0)
			assert_int_equal(symlink("victim", at(f, TEMP)), 0);
		else if (i == 1)
			assert_int_equal(link(at(f, "victim"), at(f, TEMP)), 0);
		else if (i == 2)
			assert_int_equal(mkfifo(at(f, TEMP), 0600), 0);
		else if (i == 3)
			put_file(at(f, TEMP), "mode 0644");
		for (int finishing = 0; finishing < 2; finishing++) {
			start(f);
			put_dir(f, "");
			if (finishing)
				put_finish(f, "x", 0, 4);
			else
				put_segment_whole(f, 0, 4, 0, "bad!", 4);
			assert_refused(f, 1, TP_E_STALE);
		}
		assert_content(at(f, "victim"), "keep");
		assert_false(exists(at(f, "x")));
		if (i < 4)
			assert_int_equal(unlink(at(f, TEMP)), 0);
	}
}

static void a_finished_name_waits_for_the_directory_in_its_way(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(mkdir(at(f, "x"), 0755), 0);
	put_file(at(f, "x/y"), "1");
	start(f);
	put_dir(f, "");
	put_segment_whole(f, TP_F_CREATE, 4, 0, "text", 4);
	put_finish(f, "x", 0, 4);
	assert_refused(f, 2, TP_E_BLOCKED);
	assert_true(exists(at(f, TEMP)));
	assert_int_equal(unlink(at(f, "x/y")), 0);
	start(f);
	put_dir(f, "");
	put_finish(f, "x", 0, 5);
	put_finish(f, "x", 0, 4);
	say_bye(f);
	assert_int_equal(finish(f), RCV_EXIT_OK);
	/* Too short for the first of them. */
	assert_int_equal(answer_of(f, TP_REFUSE)->n, 1);
	assert_int_equal(answer_of(f, TP_REFUSE)->error, TP_E_STALE);
	hang_up(f);
	assert_content(at(f, "x"), "text");
	/* All hole, and never sent. */
	start(f);
	put_dir(f, "");
	put_finish(f, "hole", TP_F_CREATE, 1 << 20);
	assert_done(f, 1);
	assert_int_equal(look(at(f, "hole")).st_size, 1 << 20);
}

static void nonsense_in_segments_ends_with_status_12(void **state)
{
	struct fixture *f = *state;

	for (int i = 0; i < 9; i++) {
		start(f);
		put_dir(f, "");
		put_segment(f, 1, TP_F_CREATE, 100, 10, 20);
		switch (i) {
		case 0:
			put_data_at(f, 1, 9, "x", 1);
			break;
		case 1:
			put_data_at(f, 1, 29, "xy", 2);
			break;
		case 2:
			put_data_at(f, 1, 20, "xy", 2);
			put_data_at(f, 1, 21, "z", 1);
			break;
		case 3:
			assert_int_equal(tp_put_hole(&f->out, 1, 10, 21), 0);
			break;
		case 4:
			assert_int_equal(tp_put_copy(&f->out, 1, &(struct tp_copy){ 10, 0, 1 }),
					 0);
			break;
		case 5:
			put_close(f, 1, "x", 1);
			break;
		case 6:
			put_segment(f, 1, 0, 100, 30, 20);
			break;
		case 7:
			assert_int_equal(tp_put_copy(&f->out, 2, &(struct tp_copy){ 10, 0, 1 }),
					 0);
			break;
		case 8:
			for (uint16_t k = 2; k < 40; k++)
				put_segment(f, k, 0, 100, 0, 1);
			break;
		}
		say_bye(f);
		assert_int_equal(finish(f), RCV_EXIT_PROTOCOL);
		hang_up(f);
	}
}

static void a_range_is_hashed_as_a_leaf(void **state)
{
	struct fixture *f = *state;
	struct tp_range m = { .off = 2, .bytes = 6, .name = bytes_str("f") };
	struct tp_hash_value want;
	struct tp_hash *h;

	put_file(at(f, "f"), "0123456789");
	assert_int_equal(mkdir(at(f, "d"), 0755), 0);
	start(f);
	put_dir(f, "");
	assert_int_equal(tp_put_hashreq(&f->out, 1, &m), 0);
	pump(f, TP_HASHED);
	assert_int_equal(tp_hash_new(&h, NULL), 0);
	tp_hash_content(h, "234567", 6, &want);
	assert_int_equal(answer_of(f, TP_HASHED)->error, 0);
	assert_memory_equal(&answer_of(f, TP_HASHED)->hash, &want, sizeof(want));
	/* What is beyond the end is a hole. */
	m.off = 8;
	assert_int_equal(tp_put_hashreq(&f->out, 1, &m), 0);
	pump(f, TP_HASHED);
	tp_hash_content(h, "89\0\0\0\0", 6, &want);
	assert_memory_equal(&answer_of(f, TP_HASHED)->hash, &want, sizeof(want));
	tp_hash_free(h);
	m.name = bytes_str("none");
	assert_int_equal(tp_put_hashreq(&f->out, 1, &m), 0);
	pump(f, TP_HASHED);
	assert_int_equal(answer_of(f, TP_HASHED)->error, ENOENT);
	m.name = bytes_str("d");
	assert_int_equal(tp_put_hashreq(&f->out, 1, &m), 0);
	pump(f, TP_HASHED);
	assert_int_equal(answer_of(f, TP_HASHED)->error, EINVAL);
	say_bye(f);
	assert_int_equal(finish(f), RCV_EXIT_OK);
}

static void sums_are_of_the_file_that_was_expected(void **state)
{
	_cleanup_free_ uint8_t *p = malloc(70000);
	struct tp_range m = { .size = 70000, .off = 32768, .bytes = 37232,
			      .block = tp_sums_block(70000), .name = bytes_str("old") };
	struct fixture *f = *state;
	struct buf want = BUF_INIT;
	int fd;

	for (size_t i = 0; i < 70000; i++)
		p[i] = (uint8_t)(i * i >> 7);
	fd = open(at(f, "old"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(io_write_all(fd, p, 70000), 0);
	close(fd);
	assert_int_equal(tp_sums_make(bytes_of(p + 32768, 37232), m.block, &want), 0);
	start(f);
	put_dir(f, "");
	assert_int_equal(tp_put_sumreq(&f->out, 1, &m), 0);
	pump(f, TP_SUMS);
	assert_true(bytes_eq(buf_view(&f->sig), buf_view(&want)));
	buf_fini(&want);
	m.size = 70001;
	m.bytes = 32768;
	assert_int_equal(tp_put_sumreq(&f->out, 1, &m), 0);
	pump(f, TP_SUMS);
	assert_int_equal(answer_of(f, TP_SUMS)->error, ESTALE);
	m.size = 70000;
	m.name = bytes_str("none");
	assert_int_equal(tp_put_sumreq(&f->out, 1, &m), 0);
	pump(f, TP_SUMS);
	assert_int_equal(answer_of(f, TP_SUMS)->error, ENOENT);
	say_bye(f);
	assert_int_equal(finish(f), RCV_EXIT_OK);
}

#define BIG (1u << 20)

static void send_delta(struct fixture *f, struct bytes content, uint64_t announced)
{
	struct tp_meta meta = meta_of(S_IFREG | 0600);
	struct tp_delta *d;
	struct buf out = BUF_INIT;

	meta.size = announced;
	assert_int_equal(tp_delta_new(buf_view(&f->sig), &d, NULL), 0);
	assert_int_equal(tp_delta_step(d, content, true, &out, NULL), 0);
	tp_delta_free(d);
	put_entry(f, TP_OPEN, TP_F_BASIS, 2, "big", meta);
	while (buf_len(&out)) {
		struct bytes part = buf_view(&out);

		part.n = MIN(part.n, (size_t)TP_DATA_MAX);
		assert_int_equal(tp_frame_put(&f->out, TP_DELTA, 0, 2, part), 0);
		buf_consume(&out, part.n);
	}
	put_close(f, 2, content.p, content.n);
	buf_fini(&out);
}

static void get_signature(struct fixture *f)
{
	const struct tp_sigreq req = { .block_bytes = 2048, .strong_bytes = 16,
				       .name = bytes_str("big") };

	assert_int_equal(tp_put_sigreq(&f->out, 1, &req), 0);
	while (!answer_of(f, TP_SIG) || !(answer_of(f, TP_SIG)->flags & TP_F_LAST))
		pump(f, TP_SIG);
}

static void a_delta_rebuilds_the_file(void **state)
{
	_cleanup_free_ uint8_t *content = malloc(BIG);
	struct fixture *f = *state;
	struct buf got = BUF_INIT;
	int fd;

	for (size_t i = 0; i < BIG; i++)
		content[i] = (uint8_t)(i * 2654435761u >> 13);
	fd = open(at(f, "big"), O_WRONLY | O_CREAT, 0600);
	assert_int_equal(io_write_all(fd, content, BIG), 0);
	close(fd);
	memcpy(content + 500000, "changed", 7);
	start(f);
	put_dir(f, "");
	get_signature(f);
	assert_true(buf_len(&f->sig) > 100);
	send_delta(f, bytes_of(content, BIG), BIG);
	assert_done(f, 1);
	assert_int_equal(io_read_file(AT_FDCWD, at(f, "big"), BIG, &got, NULL), 0);
	assert_memory_equal(got.p, content, BIG);
	buf_fini(&got);
}

static void a_delta_makes_no_more_than_was_announced(void **state)
{
	_cleanup_free_ uint8_t *content = malloc(BIG);
	struct fixture *f = *state;
	int fd;

	for (size_t i = 0; i < BIG; i++)
		content[i] = (uint8_t)(i * 2654435761u >> 13);
	fd = open(at(f, "big"), O_WRONLY | O_CREAT, 0600);
	assert_int_equal(io_write_all(fd, content, BIG), 0);
	close(fd);
	start(f);
	put_dir(f, "");
	get_signature(f);
	send_delta(f, bytes_of(content, BIG), 1);
	assert_refused(f, 1, TP_E_MISMATCH);
	assert_int_equal(look(at(f, "big")).st_size, BIG);
}

static void a_delta_on_another_basis_is_refused(void **state)
{
	_cleanup_free_ uint8_t *content = malloc(BIG);
	struct fixture *f = *state;
	int fd;

	for (size_t i = 0; i < BIG; i++)
		content[i] = (uint8_t)(i * 2654435761u >> 13);
	fd = open(at(f, "big"), O_WRONLY | O_CREAT, 0600);
	assert_int_equal(io_write_all(fd, content, BIG), 0);
	start(f);
	put_dir(f, "");
	get_signature(f);
	assert_int_equal(pwrite(fd, "tampered", 8, 1000), 8);
	close(fd);
	send_delta(f, bytes_of(content, BIG), BIG);
	assert_refused(f, 1, TP_E_MISMATCH);
	assert_int_equal(remove(at(f, "big")), 0);
	start(f);
	put_dir(f, "");
	put_entry(f, TP_OPEN, TP_F_BASIS, 2, "big", meta_of(S_IFREG | 0600));
	put_close(f, 2, "", 0);
	assert_refused(f, 1, TP_E_MISMATCH);
}

static void there_is_no_signature_of_what_is_not_there(void **state)
{
	const struct tp_sigreq req = { .block_bytes = 2048, .strong_bytes = 16,
				       .name = bytes_str("none") };
	struct fixture *f = *state;

	start(f);
	put_dir(f, "");
	assert_int_equal(tp_put_sigreq(&f->out, 9, &req), 0);
	say_bye(f);
	assert_int_equal(finish(f), RCV_EXIT_OK);
	assert_int_equal(answer_of(f, TP_SIG)->flags, TP_F_LAST | TP_F_ERROR);
	assert_int_equal(answer_of(f, TP_SIG)->error, ENOENT);
	assert_int_equal(answer_of(f, TP_SIG)->slot, 9);
}

static void metadata_that_is_right_is_not_touched(void **state)
{
	struct tp_meta meta = meta_of(S_IFREG | 0640);
	struct fixture *f = *state;
	struct stat before, after;

	meta.size = 3;
	put_file(at(f, "x"), "abc");
	start(f);
	put_dir(f, "");
	put_entry(f, TP_META, 0, 0, "x", meta);
	assert_done(f, 1);
	before = look(at(f, "x"));
	assert_int_equal(before.st_mode, S_IFREG | 0640);
	assert_int_equal(before.st_mtim.tv_nsec, 123456789);
	usleep(20000);
	start(f);
	put_dir(f, "");
	put_entry(f, TP_META, 0, 0, "x", meta);
	assert_done(f, 1);
	after = look(at(f, "x"));
	assert_memory_equal(&before.st_ctim, &after.st_ctim, sizeof(after.st_ctim));
}

static void metadata_for_something_else_is_stale(void **state)
{
	struct tp_meta meta = meta_of(S_IFREG | 0640);
	struct fixture *f = *state;
	struct tp_entry m = { .name = bytes_str("x"), .links = 1 };

	put_file(at(f, "x"), "abc");
	meta.size = 4;
	start(f);
	put_dir(f, "");
	put_entry(f, TP_META, 0, 0, "x", meta);
	assert_refused(f, 1, TP_E_STALE);
	start(f);
	put_dir(f, "");
	put_entry(f, TP_META, 0, 0, "missing", meta);
	assert_refused(f, 1, TP_E_STALE);
	/* The hash of something else. */
	meta.size = 3;
	m.meta = meta;
	start(f);
	put_dir(f, "");
	assert_int_equal(tp_put_entry(&f->out, TP_META, TP_F_HASH, 0, &m), 0);
	assert_refused(f, 1, TP_E_STALE);
}

static void an_inode_with_unknown_names_is_copied_first(void **state)
{
	struct tp_meta meta = meta_of(S_IFREG | 0600);
	struct fixture *f = *state;

	put_file(at(f, "mine"), "abc");
	assert_int_equal(chmod(at(f, "mine"), 0644), 0);
	assert_int_equal(link(at(f, "mine"), at(f, "theirs")), 0);
	meta.size = 3;
	start(f);
	put_dir(f, "");
	put_entry(f, TP_META, 0, 0, "mine", meta);
	assert_done(f, 1);
	assert_content(at(f, "mine"), "abc");
	assert_int_equal(look(at(f, "mine")).st_mode, S_IFREG | 0600);
	assert_int_equal(look(at(f, "mine")).st_nlink, 1);
	assert_int_equal(look(at(f, "theirs")).st_mode, S_IFREG | 0644);
}

static void set_flags(const char *path, int flags)
{
	int fd = open(path, O_RDONLY), now;

	assert_true(fd >= 0);
	assert_int_equal(ioctl(fd, FS_IOC_GETFLAGS, &now), 0);
	now = (now & ~(FS_IMMUTABLE_FL | FS_APPEND_FL)) | flags;
	assert_int_equal(ioctl(fd, FS_IOC_SETFLAGS, &now), 0);
	close(fd);
}

static int get_flags(const char *path)
{
	int fd = open(path, O_RDONLY), now = 0;

	assert_true(fd >= 0);
	assert_int_equal(ioctl(fd, FS_IOC_GETFLAGS, &now), 0);
	close(fd);
	return now & (FS_IMMUTABLE_FL | FS_APPEND_FL);
}

static bool flags_work(const struct fixture *f)
{
	int fd = open(f->root, O_RDONLY), now;
	bool ok = am_root() && ioctl(fd, FS_IOC_GETFLAGS, &now) == 0;

	close(fd);
	if (!ok)
		print_message("inode flags need root and a file system that has them\n");
	return ok;
}

static void immutable_things_are_no_obstacle(void **state)
{
	struct tp_meta meta = meta_of(S_IFREG | 0600);
	struct tp_meta dir = meta_of(S_IFDIR | 0755);
	struct fixture *f = *state;
	const struct tp_link_msg m = { .dir = bytes_str("d"),
				       .from = bytes_str("linked"),
				       .name = bytes_str("name") };

	if (!flags_work(f))
		skip();
	assert_int_equal(mkdir(at(f, "d"), 0755), 0);
	put_file(at(f, "d/replaced"), "old");
	put_file(at(f, "d/removed"), "old");
	put_file(at(f, "d/linked"), "abc");
	set_flags(at(f, "d/replaced"), FS_IMMUTABLE_FL);
	set_flags(at(f, "d/removed"), FS_APPEND_FL);
	set_flags(at(f, "d/linked"), FS_IMMUTABLE_FL);
	set_flags(at(f, "d"), FS_IMMUTABLE_FL);
	meta.flags = FS_IMMUTABLE_FL;
	dir.flags = FS_APPEND_FL;
	start(f);
	put_dir(f, "d");
	put_whole(f, "replaced", meta, "new");
	assert_int_equal(tp_put_remove(&f->out, 0, bytes_str("removed")), 0);
	put_dir(f, "e");
	assert_int_equal(tp_put_link(&f->out, &m), 0);
	put_entry(f, TP_DIRMETA, 0, 0, "d", dir);
	assert_done(f, 4);
	assert_content(at(f, "d/replaced"), "new");
	assert_int_equal(get_flags(at(f, "d/replaced")), FS_IMMUTABLE_FL);
	assert_false(exists(at(f, "d/removed")));
	assert_int_equal(look(at(f, "e/name")).st_nlink, 2);
	assert_int_equal(get_flags(at(f, "e/name")), FS_IMMUTABLE_FL);
	assert_int_equal(get_flags(at(f, "d")), FS_APPEND_FL);
	assert_int_equal(look(at(f, "d")).st_mtim.tv_nsec, 123456789);
	/* Metadata of a file that stays immutable. */
	meta.size = 3;
	meta.mode = S_IFREG | 0444;
	start(f);
	put_dir(f, "d");
	put_entry(f, TP_META, 0, 0, "replaced", meta);
	assert_done(f, 1);
	assert_int_equal(look(at(f, "d/replaced")).st_mode, S_IFREG | 0444);
	assert_int_equal(get_flags(at(f, "d/replaced")), FS_IMMUTABLE_FL);
}

static void a_killed_receiver_leaves_nothing_half_done(void **state)
{
	struct fixture *f = *state;
	int st;

	put_file(at(f, "x"), "old");
	start(f);
	put_dir(f, "");
	put_entry(f, TP_OPEN, 0, 1, "x", meta_of(S_IFREG | 0600));
	put_entry(f, TP_OPEN, 0, 2, "y", meta_of(S_IFREG | 0600));
	assert_int_equal(tp_put_data(&f->out, 1, 0, bytes_str("half")), 0);
	assert_int_equal(tp_put_data(&f->out, 2, 0, bytes_str("half")), 0);
	assert_int_equal(tp_put_number(&f->out, TP_SYNC, 7), 0);
	pump(f, TP_DURABLE);
	assert_int_equal(answer_of(f, TP_DURABLE)->n, 7);
	assert_int_equal(kill(f->pid, SIGKILL), 0);
	assert_int_equal(waitpid(f->pid, &st, 0), f->pid);
	assert_true(WIFSIGNALED(st));
	hang_up(f);
	assert_content(at(f, "x"), "old");
	assert_int_equal(remove(at(f, "x")), 0);
	assert_int_equal(rmdir(f->root), 0); /* nothing else was there */
}

static void a_driver_that_dies_is_no_error_to_tell(void **state)
{
	struct fixture *f = *state;

	start(f);
	put_dir(f, "");
	put_entry(f, TP_OPEN, 0, 1, "x", meta_of(S_IFREG | 0600));
	pump(f, TP_READY);
	assert_int_equal(shutdown(f->fd, SHUT_WR), 0);
	assert_int_equal(finish(f), RCV_EXIT_LOST);
	assert_int_equal(count_of(f, TP_ABORT), 0);
	assert_false(exists(at(f, "x")));
}

static void silence_ends_the_conversation(void **state)
{
	struct fixture *f = *state;

	start_bare(f, 0);
	put_hello(f, f->root, 0, 1);
	assert_int_equal(finish(f), RCV_EXIT_LOST);
	assert_int_equal(answer_of(f, TP_ABORT)->error, TP_ABORT_IDLE);
}

/* What is owed does not fit in the socket, and nobody reads it. */
static void a_driver_that_does_not_read_is_left(void **state)
{
	_cleanup_free_ uint8_t *content = malloc(BIG);
	const struct tp_sigreq m = {
		.block_bytes = TP_SIG_BLOCK_MIN, .strong_bytes = 32, .name = bytes_str("big")
	};
	struct fixture *f = *state;
	struct buf packed = BUF_INIT;
	uint32_t x = 1;
	int fd;

	/* The sums of 16 MiB are more than a megabyte, and do not shrink. */
	fd = open(at(f, "big"), O_WRONLY | O_CREAT, 0600);
	for (int n = 0; n < 16; n++) {
		for (size_t i = 0; i < BIG; i++)
			content[i] = (uint8_t)((x = x * 1664525u + 1013904223u) >> 24);
		assert_int_equal(io_write_all(fd, content, BIG), 0);
	}
	close(fd);
	start_bare(f, 0);
	put_hello(f, f->root, 0, 1);
	put_dir(f, "");
	assert_int_equal(tp_put_sigreq(&f->out, 0, &m), 0);
	assert_int_equal(tp_pack(f->pack, &f->out, true, &packed, NULL), 0);
	assert_int_equal(io_write_all(f->fd, packed.p, packed.n), 0);
	assert_int_equal(status(f), RCV_EXIT_LOST);
	f->pid = 0;
	buf_fini(&packed);
}

static void raw(struct fixture *f, const void *p, size_t n)
{
	assert_int_equal(buf_put(&f->out, p, n), 0);
}

/* A FILE frame with this name, made without the encoder's checks. */
static void put_bad_name(struct fixture *f, const char *name)
{
	struct tp_meta meta = meta_of(S_IFREG | 0600);
	int r;
	size_t from = tp_frame_begin(&f->out, &r);

	r |= tp_meta_put(&f->out, &meta);
	r |= buf_put_le16(&f->out, (uint16_t)strlen(name));
	r |= buf_put(&f->out, name, strlen(name));
	r |= buf_put_le32(&f->out, 0);
	assert_int_equal(r, 0);
	assert_int_equal(tp_frame_end(&f->out, from, TP_FILE, 0, 0), 0);
}

static void put_bad_path(struct fixture *f, const char *path)
{
	int r;
	size_t from = tp_frame_begin(&f->out, &r);

	r |= buf_put_le32(&f->out, (uint32_t)strlen(path));
	r |= buf_put(&f->out, path, strlen(path));
	assert_int_equal(r, 0);
	assert_int_equal(tp_frame_end(&f->out, from, TP_DIR, TP_F_CREATE, 0), 0);
}

static void nonsense_ends_with_status_12(void **state)
{
	static const char *const names[] = { "", ".", "..", "a/b", "/etc" };
	static const char *const paths[] = { "/etc", "../x", "a/../../b", "a//b", "a/" };
	static const uint8_t unknown[] = { 99, 0, 0, 0, 0, 0, 0, 0 };
	static const uint8_t huge[] = { TP_FILE, 0, 0, 0, 255, 255, 255, 255 };
	static const uint8_t flags[] = { TP_BYE, 64, 0, 0, 0, 0, 0, 0 };
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(names) + ARRAY_SIZE(paths) + 6; i++) {
		size_t row = i - ARRAY_SIZE(names) - ARRAY_SIZE(paths);

		start(f);
		put_dir(f, "");
		if (i < ARRAY_SIZE(names))
			put_bad_name(f, names[i]);
		else if (i < ARRAY_SIZE(names) + ARRAY_SIZE(paths))
			put_bad_path(f, paths[i - ARRAY_SIZE(names)]);
		else if (row == 0)
			raw(f, unknown, sizeof(unknown));
		else if (row == 1)
			raw(f, huge, sizeof(huge));
		else if (row == 2)
			raw(f, flags, sizeof(flags));
		else if (row == 3) /* a slot that is not open */
			assert_int_equal(tp_put_data(&f->out, 5, 0, bytes_str("x")), 0);
		else if (row == 4) { /* opened twice */
			put_entry(f, TP_OPEN, 0, 5, "x", meta_of(S_IFREG | 0600));
			put_entry(f, TP_OPEN, 0, 5, "x", meta_of(S_IFREG | 0600));
		} else { /* more open files than there may be */
			for (uint16_t s = 0; s < 70; s++)
				put_entry(f, TP_OPEN, 0, s, "x", meta_of(S_IFREG | 0600));
		}
		assert_int_equal(finish(f), RCV_EXIT_PROTOCOL);
		assert_int_equal(answer_of(f, TP_ABORT)->error, TP_ABORT_PROTOCOL);
		hang_up(f);
	}
}

static void another_program_is_told_apart(void **state)
{
	struct fixture *f = *state;

	start_bare(f, 0);
	raw(f, "x", 1);
	/* What follows the magic is no block that can be. */
	assert_int_equal(send(f->fd, "SSH-2.0-nonsense and more", 25, MSG_NOSIGNAL), 25);
	assert_int_equal(finish(f), RCV_EXIT_PROTOCOL);
}

static void a_newer_protocol_ends_with_status_2(void **state)
{
	struct fixture *f = *state;
	const struct tp_hello m = { .version_min = 900, .version_max = 901,
				    .root = bytes_str(f->root) };

	start_bare(f, 0);
	assert_int_equal(tp_put_hello_d(&f->out, &m), 0);
	assert_int_equal(finish(f), RCV_EXIT_VERSION);
	assert_int_equal(answer_of(f, TP_ABORT)->error, TP_ABORT_VERSION);
}

static void the_root_is_made_when_asked_for(void **state)
{
	const struct {
		const char *path;
		uint32_t flags;
		int status;
		const char *text;
	} rows[] = {
		{ "new", 0, RCV_EXIT_IO, "No such file" },
		{ "a/b/c", TP_H_CREATE_ROOT, RCV_EXIT_IO, "--mkpath" },
		{ "new", TP_H_CREATE_ROOT, RCV_EXIT_OK, NULL },
		{ "a/b/c", TP_H_CREATE_ROOT | TP_H_MKPATH, RCV_EXIT_OK, NULL },
		{ "file", TP_H_CREATE_ROOT, RCV_EXIT_IO, "Not a directory" },
		{ "link", 0, RCV_EXIT_OK, NULL },
	};
	struct fixture *f = *state;

	put_file(at(f, "file"), "");
	assert_int_equal(symlink("../outside", at(f, "link")), 0);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		start_bare(f, 0);
		put_hello(f, at(f, rows[i].path), rows[i].flags, 5);
		say_bye(f);
		assert_int_equal(finish(f), rows[i].status);
		if (rows[i].text)
			assert_non_null(strstr(answer_of(f, TP_ABORT)->op, rows[i].text));
		else if (rows[i].flags)
			assert_int_equal(f->ready.flags & (TP_R_CREATED | TP_R_EMPTY),
					 TP_R_CREATED | TP_R_EMPTY);
		hang_up(f);
	}
}

/* The items as text: names, with ( ) for what is in directories. */
static void listing_text(struct fixture *f, char *out, size_t max)
{
	struct reader r = reader_of(buf_view(&f->listing));
	struct tp_item_entry item;
	size_t n = 0;

	out[0] = '\0';
	while (tp_get_item(&r, &item, NULL) == 1)
		switch (item.kind) {
		case TP_ITEM_ENTRY:
			n += (size_t)snprintf(out + n, max - n, "%.*s ", (int)item.name.n,
					      item.name.p);
			break;
		case TP_ITEM_FAIL:
			n += (size_t)snprintf(out + n, max - n, "! ");
			break;
		default:
			n += (size_t)snprintf(out + n, max - n,
					      item.kind == TP_ITEM_ENTER ? "( " : ") ");
		}
}

static void listings_are_sorted_and_spare_our_own(void **state)
{
	static const struct {
		const char *path;
		uint8_t flags;
		const char *want;
		uint32_t error;
	} rows[] = {
		{ "", 0, "Z a b ", 0 },
		{ "", TP_F_RECURSE, "Z a ( .stager x ( ) y ) b ", 0 },
		{ "a", 0, ".stager x y ", 0 },
		{ "a/x", TP_F_RECURSE, "", 0 },
		{ "none", 0, "", ENOENT },
		{ ".stager", 0, "", EPERM },
	};
	struct fixture *f = *state;
	char text[256];

	assert_int_equal(mkdir(at(f, TP_OWN_DIR), 0700), 0);
	assert_int_equal(mkdir(at(f, "a"), 0700), 0);
	assert_int_equal(mkdir(at(f, "a/x"), 0700), 0);
	put_file(at(f, "a/" TP_OWN_DIR), "");
	put_file(at(f, "a/y"), "");
	put_file(at(f, "b"), "");
	put_file(at(f, "Z"), "");
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		start(f);
		assert_int_equal(tp_put_path(&f->out, TP_LIST, rows[i].flags, 4,
					     bytes_str(rows[i].path)), 0);
		say_bye(f);
		assert_int_equal(finish(f), RCV_EXIT_OK);
		listing_text(f, text, sizeof(text));
		assert_string_equal(text, rows[i].want);
		assert_int_equal(answer_of(f, TP_LISTING)->flags, TP_F_LAST);
		assert_int_equal(answer_of(f, TP_LISTING)->error, rows[i].error);
		hang_up(f);
	}
}

static void deep_trees_are_listed_to_the_bottom(void **state)
{
	struct fixture *f = *state;
	char path[256] = "d", text[1024], want[1024] = "";

	for (int i = 0; i < 40; i++) {
		assert_int_equal(mkdir(at(f, path), 0700), 0);
		strcat(path, "/d");
	}
	put_file(at(f, "d/z"), "");
	for (int i = 0; i < 40; i++)
		strcat(want, "d ( ");
	for (int i = 0; i < 39; i++)
		strcat(want, ") ");
	strcat(want, "z ) ");
	start(f);
	assert_int_equal(tp_put_path(&f->out, TP_LIST, TP_F_RECURSE, 4, bytes_str("")), 0);
	say_bye(f);
	assert_int_equal(finish(f), RCV_EXIT_OK);
	listing_text(f, text, sizeof(text));
	assert_string_equal(text, want);
}

static void removal_takes_only_what_was_named(void **state)
{
	static const struct {
		const char *name;
		uint8_t flags;
		uint32_t error; /* 0: it is gone */
	} rows[] = {
		{ "file", 0, 0 },
		{ "none", 0, 0 },
		{ "none", TP_F_DIRECTORY, 0 },
		{ "empty", TP_F_DIRECTORY, 0 },
		{ "full", TP_F_DIRECTORY, ENOTEMPTY },
		{ "full", 0, EISDIR },
		{ "other", TP_F_DIRECTORY, ENOTDIR },
		{ "dangling", 0, 0 },
	};
	struct fixture *f = *state;

	put_file(at(f, "file"), "");
	put_file(at(f, "other"), "");
	assert_int_equal(mkdir(at(f, "empty"), 0700), 0);
	assert_int_equal(mkdir(at(f, "full"), 0700), 0);
	put_file(at(f, "full/x"), "");
	assert_int_equal(symlink("nowhere", at(f, "dangling")), 0);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		start(f);
		put_dir(f, "");
		assert_int_equal(tp_put_remove(&f->out, rows[i].flags, bytes_str(rows[i].name)), 0);
		if (rows[i].error)
			assert_refused(f, 1, rows[i].error);
		else
			assert_done(f, 1);
		assert_int_equal(exists(at(f, rows[i].name)), rows[i].error != 0);
	}
}

static void a_directory_removed_meanwhile_is_made_again(void **state)
{
	struct fixture *f = *state;

	start(f);
	put_dir(f, "a/b");
	put_whole(f, "one", meta_of(S_IFREG | 0600), "1");
	pump(f, TP_ACK);
	assert_int_equal(remove(at(f, "a/b/one")), 0);
	assert_int_equal(remove(at(f, "a/b")), 0);
	put_whole(f, "two", meta_of(S_IFREG | 0600), "2");
	assert_done(f, 2);
	assert_content(at(f, "a/b/two"), "2");
}

static void files_do_not_inherit_the_acl_of_their_directory(void **state)
{
	/* u::rwx u:1000:rwx g::r-x m::rwx o::r-x */
	static const uint8_t acl[] = {
		2, 0, 0, 0, 1, 0, 7, 0, 0xff, 0xff, 0xff, 0xff, 2, 0, 7, 0, 0xe8, 3, 0, 0,
		4, 0, 5, 0, 0xff, 0xff, 0xff, 0xff, 16, 0, 7, 0, 0xff, 0xff, 0xff, 0xff,
		32, 0, 5, 0, 0xff, 0xff, 0xff, 0xff,
	};
	struct tp_meta dir = meta_of(S_IFDIR | 0750);
	struct buf packed = BUF_INIT;
	struct fixture *f = *state;
	uint8_t got[256];

	assert_int_equal(mkdir(at(f, "d"), 0755), 0);
	if (setxattr(at(f, "d"), "system.posix_acl_default", acl, sizeof(acl), 0) < 0)
		skip();
	start(f);
	put_dir(f, "d");
	put_whole(f, "x", meta_of(S_IFREG | 0664), "1");
	put_entry(f, TP_ENTRY, 0, 0, "fifo", meta_of(S_IFIFO | 0664));
	assert_done(f, 2);
	assert_int_equal(getxattr(at(f, "d/x"), "system.posix_acl_access", got, sizeof(got)), -1);
	assert_int_equal(getxattr(at(f, "d/fifo"), "system.posix_acl_access", got, sizeof(got)), -1);
	assert_int_equal(look(at(f, "d/x")).st_mode, S_IFREG | 0664);
	/* The directory's own end state: other attributes, none of the old ones. */
	assert_int_equal(buf_put_le16(&packed, 6), 0);
	assert_int_equal(buf_put_le32(&packed, 1), 0);
	assert_int_equal(buf_put(&packed, "user.av", 7), 0);
	dir.xattrs = buf_view(&packed);
	start(f);
	put_entry(f, TP_DIRMETA, 0, 0, "d", dir);
	assert_done(f, 1);
	assert_int_equal(getxattr(at(f, "d"), "system.posix_acl_default", got, sizeof(got)), -1);
	assert_int_equal(getxattr(at(f, "d"), "user.a", got, sizeof(got)), 1);
	assert_int_equal(look(at(f, "d")).st_mode, S_IFDIR | 0750);
	assert_int_equal(look(at(f, "d")).st_mtim.tv_nsec, 123456789);
	buf_fini(&packed);
}

static void an_acl_comes_and_goes_with_the_mode_that_belongs_to_it(void **state)
{
	/* u::rwx u:1000:rwx g::--- m::rwx o::r-x */
	static const uint8_t acl[] = {
		2, 0, 0, 0, 1, 0, 7, 0, 0xff, 0xff, 0xff, 0xff, 2, 0, 7, 0, 0xe8, 3, 0, 0,
		4, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 16, 0, 7, 0, 0xff, 0xff, 0xff, 0xff,
		32, 0, 5, 0, 0xff, 0xff, 0xff, 0xff,
	};
	static const char name[] = "system.posix_acl_access";
	struct tp_meta with = meta_of(S_IFREG | S_ISUID | 0775), without = with;
	struct tp_entry m = { .name = bytes_str("x"), .links = 1 };
	struct buf packed = BUF_INIT;
	struct fixture *f = *state;
	uint8_t got[256];

	if (!am_root())
		skip();
	assert_int_equal(buf_put_le16(&packed, sizeof(name) - 1), 0);
	assert_int_equal(buf_put_le32(&packed, sizeof(acl)), 0);
	assert_int_equal(buf_put(&packed, name, sizeof(name) - 1), 0);
	assert_int_equal(buf_put(&packed, acl, sizeof(acl)), 0);
	with.xattrs = buf_view(&packed);
	without.gid = 4242;
	without.size = with.size = 1;
	put_file(at(f, "x"), "1");
	if (setxattr(at(f, "x"), name, acl, sizeof(acl), 0) < 0) {
		buf_fini(&packed);
		skip();
	}
	start(f);
	put_dir(f, "");
	m.meta = without;
	assert_int_equal(tp_put_entry(&f->out, TP_META, 0, 0, &m), 0);
	assert_done(f, 1);
	assert_int_equal(getxattr(at(f, "x"), name, got, sizeof(got)), -1);
	assert_int_equal(look(at(f, "x")).st_mode, S_IFREG | S_ISUID | 0775);
	assert_int_equal(look(at(f, "x")).st_gid, 4242);
	start(f);
	put_dir(f, "");
	m.meta = with;
	assert_int_equal(tp_put_entry(&f->out, TP_META, 0, 0, &m), 0);
	put_whole(f, "new", with, "1");
	assert_done(f, 2);
	for (int i = 0; i < 2; i++) {
		const char *path = at(f, i ? "new" : "x");

		assert_int_equal(getxattr(path, name, got, sizeof(got)), sizeof(acl));
		assert_memory_equal(got, acl, sizeof(acl));
		assert_int_equal(look(path).st_mode, S_IFREG | S_ISUID | 0775);
	}
	buf_fini(&packed);
}

static void without_root_the_content_still_arrives(void **state)
{
	struct tp_meta meta = meta_of(S_IFREG | 04755);
	struct fixture *f = *state;
	struct buf packed = BUF_INIT;
	char got[8];

	if (!am_root())
		skip();
	meta.uid = 1;
	meta.gid = 1;
	assert_int_equal(chown(f->root, NOBODY, NOBODY), 0);
	start_bare(f, NOBODY);
	put_hello(f, f->root, 0, 10);
	put_dir(f, "a");
	put_whole(f, "x", meta, "1");
	put_whole(f, "x", meta, "22"); /* over it */
	meta.mode = S_IFREG | 0444;
	assert_int_equal(buf_put_le16(&packed, 6), 0);
	assert_int_equal(buf_put_le32(&packed, 1), 0);
	assert_int_equal(buf_put(&packed, "user.av", 7), 0);
	meta.xattrs = buf_view(&packed);
	put_whole(f, "readonly", meta, "3");
	assert_done(f, 3);
	assert_int_equal(f->ready.uid, NOBODY);
	assert_int_equal(f->ready.flags & (TP_R_CHOWN | TP_R_MKNOD | TP_R_FLAGS), 0);
	assert_content(at(f, "a/x"), "22");
	assert_int_equal(look(at(f, "a/x")).st_uid, NOBODY);
	/* setuid was meant for another owner */
	assert_int_equal(look(at(f, "a/x")).st_mode, S_IFREG | 0755);
	assert_int_equal(look(at(f, "a/readonly")).st_mode, S_IFREG | 0444);
	assert_int_equal(getxattr(at(f, "a/readonly"), "user.a", got, sizeof(got)), 1);
	start_bare(f, NOBODY);
	put_hello(f, f->root, 0, 10);
	put_dir(f, "a");
	put_entry(f, TP_ENTRY, 0, 0, "dev", kind_meta(3));
	assert_refused(f, 1, EPERM);
	buf_fini(&packed);
}

static void attributes_that_cannot_be_set_are_warned_about(void **state)
{
	struct tp_meta meta = meta_of(S_IFREG | 0644);
	struct buf packed = BUF_INIT;
	struct fixture *f = *state;

	assert_int_equal(buf_put_le16(&packed, 9), 0);
	assert_int_equal(buf_put_le32(&packed, 1), 0);
	assert_int_equal(buf_put(&packed, "nowhere.av", 10), 0);
	meta.xattrs = buf_view(&packed);
	start(f);
	put_dir(f, "");
	put_whole(f, "x", meta, "1");
	say_bye(f);
	assert_int_equal(finish(f), RCV_EXIT_OK);
	assert_int_equal(count_of(f, TP_REFUSE), 0);
	assert_int_equal(count_of(f, TP_WARN), 1);
	assert_string_equal(answer_of(f, TP_WARN)->op, "setxattr nowhere.a");
	assert_int_equal(answer_of(f, TP_WARN)->n, 1);
	assert_content(at(f, "x"), "1");
	buf_fini(&packed);
}

static void acknowledgements_come_in_order(void **state)
{
	struct fixture *f = *state;
	uint64_t last = 0;
	char name[16];

	start(f);
	put_dir(f, "");
	for (int i = 0; i < 1000; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		put_whole(f, name, meta_of(S_IFREG | 0600), "1");
	}
	say_bye(f);
	assert_int_equal(finish(f), RCV_EXIT_OK);
	for (size_t i = 0; i < f->count; i++) {
		if (f->answers[i].type != TP_ACK)
			continue;
		assert_true(f->answers[i].n > last);
		assert_true(f->answers[i].n - last <= TP_ACK_EVERY);
		last = f->answers[i].n;
	}
	assert_int_equal(last, 1000);
}

#define ROW(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		ROW(a_whole_file_arrives_with_all_its_metadata),
		ROW(further_files_of_a_directory_are_like_the_first),
		ROW(a_directory_that_changed_is_looked_at_when_it_is_entered),
		ROW(a_file_without_room_leaves_nothing),
		ROW(entries_of_every_type_are_made_and_then_left_alone),
		ROW(any_type_replaces_any_other),
		ROW(a_directory_replaces_what_is_in_its_way),
		ROW(a_full_directory_is_not_replaced),
		ROW(links_below_the_root_are_never_followed),
		ROW(our_own_directory_is_out_of_bounds),
		ROW(names_are_moved_but_never_over_others),
		ROW(hard_links_are_made_and_recognised),
		ROW(names_are_moved_but_never_over_others),
		ROW(checks_name_what_differs),
		ROW(checks_know_attributes_holes_and_links),
		ROW(holes_stay_holes),
		ROW(pieces_in_any_order_are_hashed_right),
		ROW(content_that_differs_from_its_hash_is_dropped),
		ROW(a_dropped_file_leaves_nothing),
		ROW(a_big_file_is_put_together_by_several_receivers),
		ROW(a_segment_that_is_sent_again_replaces_itself),
		ROW(segments_copy_from_the_old_file),
		ROW(a_temporary_name_is_not_trusted),
		ROW(a_finished_name_waits_for_the_directory_in_its_way),
		ROW(nonsense_in_segments_ends_with_status_12),
		ROW(a_range_is_hashed_as_a_leaf),
		ROW(sums_are_of_the_file_that_was_expected),
		ROW(a_delta_rebuilds_the_file),
		ROW(a_delta_makes_no_more_than_was_announced),
		ROW(a_delta_on_another_basis_is_refused),
		ROW(there_is_no_signature_of_what_is_not_there),
		ROW(metadata_that_is_right_is_not_touched),
		ROW(metadata_for_something_else_is_stale),
		ROW(an_inode_with_unknown_names_is_copied_first),
		ROW(immutable_things_are_no_obstacle),
		ROW(a_killed_receiver_leaves_nothing_half_done),
		ROW(a_driver_that_dies_is_no_error_to_tell),
		ROW(silence_ends_the_conversation),
		ROW(a_driver_that_does_not_read_is_left),
		ROW(nonsense_ends_with_status_12),
		ROW(another_program_is_told_apart),
		ROW(a_newer_protocol_ends_with_status_2),
		ROW(the_root_is_made_when_asked_for),
		ROW(listings_are_sorted_and_spare_our_own),
		ROW(deep_trees_are_listed_to_the_bottom),
		ROW(removal_takes_only_what_was_named),
		ROW(a_directory_removed_meanwhile_is_made_again),
		ROW(files_do_not_inherit_the_acl_of_their_directory),
		ROW(an_acl_comes_and_goes_with_the_mode_that_belongs_to_it),
		ROW(without_root_the_content_still_arrives),
		ROW(attributes_that_cannot_be_set_are_warned_about),
		ROW(acknowledgements_come_in_order),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
