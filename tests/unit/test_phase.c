/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whole phases, without SSH: the sessions talk to the receiver over pipes.  Each test makes
 * a source, runs phases, and compares the two trees.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>

#include <cmocka.h>

#include "common/io.h"
#include "common/macro.h"
#include "stager/catalog.h"
#include "stager/migration.h"
#include "stager/options.h"
#include "stager/phase.h"
#include "stager/run.h"
#include "transport/link_pipe.h"

#define NOBODY 65534
#define NAME_BYTES 256
#define PATH_BYTES 512

/* How a connection is broken. */
enum fault {
	FAULT_NONE,
	FAULT_CUT,    /* the link is dead for the driver, the receiver sees its end */
	FAULT_KILL,   /* the receiver is killed */
	FAULT_SIGNAL, /* the driver is asked to stop */
};

#define GREETING_BYTES 65536 /* more than a driver writes before it has read READY */

/*
 * Connects to a local receiver; breaks the first `times` connections after `after` bytes, and
 * with `answered` not before the receiver has answered more than its greeting.
 * FAULT_SIGNAL comes once, after `after` bytes of all connections together, which take no more
 * then: how far the receivers are does not depend on how soon the signal is seen.
 */
struct connector {
	struct stg_connector base;
	const char *pid_dir;
	pthread_mutex_t lock;
	unsigned opened, times;
	enum fault fault;
	uint64_t after;
	bool answered;
	uint64_t written; /* by all connections */
	bool raised;
};

struct fixture {
	char dir[32], source[48], target[48], state[48], report[64];
	struct stg_options opt;
	struct stg_command command;
	struct stg_filter_arg filter;
	struct connector con;
	int partial;
	struct err e;
};

#define OK(call)                                                                     \
	do {                                                                         \
		int ok_ = (call);                                                    \
		if (ok_ < 0)                                                         \
			fail_msg("%s: %d (errno %d): %s", #call, ok_, errno, f->e.text); \
	} while (0)

/* --- a link that breaks --- */

struct faulty {
	struct tp_link link;
	struct tp_link *inner;
	struct connector *con;
	enum fault fault;
	uint64_t after;
	uint64_t heard; /* bytes that were read when GREETING_BYTES were written */
	pid_t pid;
	bool greeted, broken;
	struct err err;
};

static struct faulty *of(struct tp_link *l)
{
	return (struct faulty *)(void *)l;
}

static int dead(struct faulty *w)
{
	return err_set(&w->err, -ERR_LOST, "the test cut the connection");
}

static void pass_on_counts(struct faulty *w)
{
	w->link.bytes_read = w->inner->bytes_read;
	w->link.bytes_written = w->inner->bytes_written;
}

static ssize_t faulty_read(struct tp_link *l, void *p, size_t n)
{
	ssize_t r;

	if (of(l)->broken && of(l)->fault == FAULT_CUT)
		return dead(of(l));
	r = of(l)->inner->ops->read(of(l)->inner, p, n);
	pass_on_counts(of(l));
	return r;
}

static void break_it(struct faulty *w)
{
	w->broken = true;
	if (w->fault == FAULT_KILL)
		kill(w->pid, SIGKILL);
	if (w->fault == FAULT_SIGNAL) {
		pthread_mutex_lock(&w->con->lock);
		if (!w->con->raised)
			kill(getpid(), SIGTERM);
		w->con->raised = true;
		pthread_mutex_unlock(&w->con->lock);
	}
}

/* Bytes that may still be written until the fault. */
static uint64_t room(struct faulty *w)
{
	uint64_t written = w->inner->bytes_written;

	if (!w->fault || (w->broken && w->fault == FAULT_KILL))
		return UINT64_MAX;
	if (w->fault == FAULT_SIGNAL) {
		pthread_mutex_lock(&w->con->lock);
		written = w->con->written;
		pthread_mutex_unlock(&w->con->lock);
	}
	return w->after - MIN(written, w->after);
}

static void note_written(struct faulty *w, size_t n)
{
	pthread_mutex_lock(&w->con->lock);
	w->con->written += n;
	pthread_mutex_unlock(&w->con->lock);
	if (!w->greeted && w->inner->bytes_written >= GREETING_BYTES) {
		w->greeted = true;
		w->heard = w->inner->bytes_read;
	}
}

static ssize_t faulty_write(struct tp_link *l, const void *p, size_t n)
{
	struct faulty *w = of(l);
	ssize_t r;

	if (w->broken && w->fault == FAULT_CUT)
		return dead(w);
	/* To the very byte: a frame may be cut anywhere. */
	n = (size_t)MIN((uint64_t)n, room(w));
	r = n ? w->inner->ops->write(w->inner, p, n) : 0;
	pass_on_counts(w);
	if (r > 0)
		note_written(w, (size_t)r);
	if (!w->broken && !room(w) &&
	    (!w->con->answered || (w->greeted && w->inner->bytes_read > w->heard)))
		break_it(w);
	if (r == 0)
		return w->broken && w->fault == FAULT_CUT ? dead(w) : -EAGAIN;
	return r;
}

static int faulty_wait(struct tp_link *l, bool want_write, int extra_fd, int timeout_ms)
{
	if (of(l)->broken && of(l)->fault == FAULT_CUT)
		return dead(of(l));
	want_write = want_write && room(of(l));
	return of(l)->inner->ops->wait(of(l)->inner, want_write, extra_fd, timeout_ms);
}

static int faulty_eof(struct tp_link *l)
{
	return of(l)->inner->ops->eof(of(l)->inner);
}

static int faulty_finish(struct tp_link *l, int timeout_ms, struct tp_exit *ret)
{
	return of(l)->inner->ops->finish(of(l)->inner, timeout_ms, ret);
}

static struct bytes faulty_said(struct tp_link *l)
{
	return of(l)->inner->ops->said(of(l)->inner);
}

static const struct err *faulty_error(struct tp_link *l)
{
	return of(l)->err.code ? &of(l)->err : of(l)->inner->ops->error(of(l)->inner);
}

static void faulty_close(struct tp_link *l)
{
	tp_link_close(of(l)->inner);
	free(l);
}

static const struct tp_link_ops faulty_ops = {
	.read = faulty_read,
	.write = faulty_write,
	.wait = faulty_wait,
	.eof = faulty_eof,
	.finish = faulty_finish,
	.said = faulty_said,
	.error = faulty_error,
	.close = faulty_close,
};

static int read_pid(const char *path, pid_t *ret, struct err *e)
{
	_cleanup_(buf_fini) struct buf b = BUF_INIT;

	/* The shell writes it before it becomes the receiver. */
	for (int i = 0; i < 2000; i++) {
		buf_clear(&b);
		if (io_read_file(AT_FDCWD, path, 64, &b, e) == 0 && buf_len(&b) &&
		    b.p[b.n - 1] == '\n') {
			*ret = (pid_t)strtol(buf_cstr(&b), NULL, 10);
			return 0;
		}
		nanosleep(&(struct timespec){ .tv_nsec = 5000000 }, NULL);
	}
	return err_set(e, -EIO, "no process number in %s", path);
}

static int connect_local(struct stg_connector *base, bool again, struct bytes hello,
			 struct tp_link **ret, struct err *e)
{
	struct connector *c = (struct connector *)(void *)base;
	char path[PATH_BYTES], script[] = "echo $$ >\"$0\"; exec \"$1\"";
	char sh[] = "/bin/sh", dash_c[] = "-c", receiver[] = RECEIVER_PATH;
	char *argv[] = { sh, dash_c, script, path, receiver, NULL };
	struct faulty *w = calloc(1, sizeof(*w));
	unsigned number;
	int r;

	(void)again;
	if (!w)
		return err_set(e, -ENOMEM, "connect: out of memory");
	w->link.ops = &faulty_ops;
	pthread_mutex_lock(&c->lock);
	number = c->opened++;
	w->con = c;
	w->after = c->after;
	w->fault = number < c->times || (c->times && c->fault == FAULT_SIGNAL) ? c->fault :
										 FAULT_NONE;
	pthread_mutex_unlock(&c->lock);
	snprintf(path, sizeof(path), "%s/pid.%u", c->pid_dir, number);
	unlink(path);
	r = tp_link_pipe_open(argv, &w->inner, e);
	if (r == 0)
		r = read_pid(path, &w->pid, e);
	/* The pipe has room for it; what is cut off here shows when an answer is waited for. */
	if (r == 0)
		(void)faulty_write(&w->link, hello.p, hello.n);
	if (r < 0) {
		tp_link_close(w->inner);
		free(w);
		return r;
	}
	*ret = &w->link;
	return 0;
}

/* --- fixture --- */

static int remove_one(const char *path, const struct stat *st _unused_, int kind _unused_,
		      struct FTW *ftw _unused_)
{
	return remove(path);
}

static int open_up(const char *path, const struct stat *st, int kind _unused_,
		   struct FTW *ftw _unused_)
{
	return S_ISDIR(st->st_mode) ? chmod(path, 0700) : 0;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	if (!f)
		return -1;
	*state = f;
	umask(022);
	strcpy(f->dir, "/tmp/test_phase.XXXXXX");
	if (!mkdtemp(f->dir) || chmod(f->dir, 0755) < 0)
		return -1;
	snprintf(f->source, sizeof(f->source), "%s/source", f->dir);
	snprintf(f->target, sizeof(f->target), "%s/target", f->dir);
	snprintf(f->state, sizeof(f->state), "%s/state", f->dir);
	snprintf(f->report, sizeof(f->report), "%s/report.json", f->state);
	f->command.name = "full";
	f->opt = (struct stg_options){
		.max_delete = STG_MAX_DELETE_NONE,
		.command = &f->command,
		.state_dir = f->state,
		.report = f->report,
		.progress = STG_PROGRESS_NONE,
		.source = f->source,
		.target = { .host = (char *)(uintptr_t)"target.test", .root = f->target, .port = 22 },
		.timeout_s = 60,
		.sessions = 2,
		.compress = STG_COMPRESS_AUTO,
		.resume_mode = STG_RESUME_AUTO,
	};
	f->con = (struct connector){ .base = { .connect = connect_local }, .pid_dir = f->dir };
	pthread_mutex_init(&f->con.lock, NULL);
	return mkdir(f->source, 0755);
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	/* What a mode locks up for its owner must be opened before it can be removed. */
	for (int i = 0; i < 8 && access(f->dir, F_OK) == 0; i++) {
		nftw(f->dir, open_up, 16, FTW_PHYS);
		nftw(f->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	}
	pthread_mutex_destroy(&f->con.lock);
	free(f);
	return 0;
}

/* A phase as a command runs it; f->partial and f->e are what came of it. */
static int run(struct fixture *f, enum stg_phase_kind kind)
{
	struct stg_migration m;
	int r;

	/* What was just made shall be older than the sync point, and so count as settled. */
	nanosleep(&(struct timespec){ .tv_nsec = 30000000 }, NULL);
	f->e = (struct err){ 0 };
	f->partial = -1;
	f->con.opened = 0;
	f->con.written = 0;
	f->con.raised = false;
	r = stg_migration_open(&m, &f->opt, STG_LEVEL_SYNC, &f->e);
	m.connector = &f->con.base;
	if (r == 0)
		r = stg_phase_run(&m, kind, &f->partial, &f->e);
	(void)stg_migration_close(&m, r, &f->e, r < 0 ? 0 : f->partial);
	return r;
}

static void run_well(struct fixture *f, enum stg_phase_kind kind)
{
	OK(run(f, kind));
	assert_int_equal(f->partial, 0);
}

/* A counter of the newest phase in the report. */
static uint64_t stat_of(struct fixture *f, const char *name)
{
	_cleanup_(buf_fini) struct buf b = BUF_INIT;
	const char *at, *found = NULL;
	char key[64];

	OK(io_read_file(AT_FDCWD, f->report, 1u << 20, &b, &f->e));
	snprintf(key, sizeof(key), "\"%s\":", name);
	for (at = buf_cstr(&b); (at = strstr(at, key)); at++)
		found = at + strlen(key);
	if (!found)
		fail_msg("the report has no %s", key);
	return strtoull(found, NULL, 10);
}

/* --- making trees; paths are relative to the source --- */

static const char *at_root(char out[PATH_BYTES], const char *root, const char *path)
{
	snprintf(out, PATH_BYTES, "%s/%s", root, path);
	return out;
}

static void put(struct fixture *f, const char *root, const char *path, const void *p, size_t n)
{
	char full[PATH_BYTES];
	int fd = open(at_root(full, root, path), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	if (fd < 0 || io_write_all(fd, p, n) < 0)
		fail_msg("write %s: %s", full, strerror(errno));
	close(fd);
	(void)f;
}

static void put_text(struct fixture *f, const char *path, const char *text)
{
	put(f, f->source, path, text, strlen(text));
}

/* Bytes that do not compress and do not repeat. */
static void put_noise(struct fixture *f, const char *path, size_t n, uint32_t seed)
{
	uint8_t *p = malloc(n);

	assert_non_null(p);
	for (size_t i = 0; i < n; i++) {
		seed = seed * 1664525 + 1013904223;
		p[i] = (uint8_t)(seed >> 24);
	}
	put(f, f->source, path, p, n);
	free(p);
}

static void make_dir(struct fixture *f, const char *path)
{
	char full[PATH_BYTES];

	OK(mkdir(at_root(full, f->source, path), 0755));
}

static void make_link(struct fixture *f, const char *old, const char *new)
{
	char a[PATH_BYTES], b[PATH_BYTES];

	OK(link(at_root(a, f->source, old), at_root(b, f->source, new)));
}

static void take_away(const char *root, const char *path)
{
	char full[PATH_BYTES];

	nftw(at_root(full, root, path), remove_one, 16, FTW_DEPTH | FTW_PHYS);
	assert_int_equal(access(full, F_OK), -1);
}

static void set_mtime(const char *root, const char *path, int64_t s, long ns)
{
	struct timespec t[2] = { { .tv_sec = s, .tv_nsec = ns }, { .tv_sec = s, .tv_nsec = ns } };
	char full[PATH_BYTES];

	assert_int_equal(utimensat(AT_FDCWD, at_root(full, root, path), t, AT_SYMLINK_NOFOLLOW), 0);
}

static bool exists(const char *root, const char *path)
{
	char full[PATH_BYTES];
	struct stat st;

	return lstat(at_root(full, root, path), &st) == 0;
}

static void make_special(struct fixture *f)
{
	char full[PATH_BYTES];
	int fd;

	OK(mkfifo(at_root(full, f->source, "d/fifo"), 0640));
	OK(symlink("../nowhere/\xff", at_root(full, f->source, "d/link")));
	fd = open(at_root(full, f->source, "sparse"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, "begin", 5, 0), 5);
	assert_int_equal(pwrite(fd, "end", 3, 8u << 20), 3);
	close(fd);
	/* tmpfs of older kernels has none for users: then there is nothing to compare. */
	(void)!setxattr(at_root(full, f->source, "d/small"), "user.colour", "blue", 4, 0);
	(void)!setxattr(at_root(full, f->source, "d"), "user.kind", "\0\xff", 2, 0);
	if (geteuid() != 0)
		return;
	(void)!mknod(at_root(full, f->source, "d/null"), S_IFCHR | 0600, makedev(1, 3));
	OK(chown(at_root(full, f->source, "d/small"), 1234, 4321));
	OK(chmod(at_root(full, f->source, "d/small"), 04750));
	OK(lchown(at_root(full, f->source, "d/link"), 99, 98));
}

static void make_tree(struct fixture *f)
{
	char name[NAME_BYTES];

	put_text(f, "empty", "");
	make_dir(f, "d");
	make_dir(f, "d/e");
	make_dir(f, "d/hollow");
	put_text(f, "d/small", "small\n");
	put_text(f, "d/e/deep", "deep\n");
	put_noise(f, "large", 700000, 1);
	put_noise(f, "larger", 3000000, 2);
	make_dir(f, "links");
	make_link(f, "d/e/deep", "links/one");
	make_link(f, "d/e/deep", "links/two");
	make_link(f, "large", "links/large");
	make_dir(f, "names");
	for (unsigned b = 1; b < 256; b++) {
		if (b == '/')
			continue;
		snprintf(name, sizeof(name), "names/n%c", (char)b);
		put_text(f, name, name);
	}
	make_dir(f, "many");
	for (int i = 0; i < 600; i++) {
		snprintf(name, sizeof(name), "many/%d", i);
		put_text(f, name, name);
	}
	make_special(f);
	set_mtime(f->source, "empty", -1, 999999999);
	set_mtime(f->source, "d/link", 5, 6);
	set_mtime(f->source, "d/hollow", 4102444800, 1);
	set_mtime(f->source, "d", 1000000000, 123456789);
}

/* --- comparing trees --- */

struct compared {
	struct {
		ino_t a, b;
	} *pairs; /* inodes with several names */
	size_t n, cap, entries;
};

static void same_xattrs(const char *a, const char *b)
{
	char names[2][4096], value[2][4096];
	ssize_t n = llistxattr(a, names[0], sizeof(names[0]));
	ssize_t k = llistxattr(b, names[1], sizeof(names[1]));

	if (n != k)
		fail_msg("%s: %zd bytes of attribute names, not %zd", b, k, n);
	for (char *at = names[0]; n > 0 && at < names[0] + n; at += strlen(at) + 1) {
		ssize_t v = lgetxattr(a, at, value[0], sizeof(value[0]));

		if (lgetxattr(b, at, value[1], sizeof(value[1])) != v ||
		    (v > 0 && memcmp(value[0], value[1], (size_t)v) != 0))
			fail_msg("%s: another %s", b, at);
	}
}

static void same_content(const char *a, const char *b)
{
	_cleanup_(buf_fini) struct buf x = BUF_INIT, y = BUF_INIT;
	struct err e = { 0 };

	if (io_read_file(AT_FDCWD, a, 256u << 20, &x, &e) < 0 ||
	    io_read_file(AT_FDCWD, b, 256u << 20, &y, &e) < 0)
		fail_msg("%s", e.text);
	if (!bytes_eq(buf_view(&x), buf_view(&y)))
		fail_msg("%s: another content", b);
}

/* Names of one inode here are names of one inode there, and the other way round. */
static void same_links(struct compared *c, const char *path, const struct stat *a,
		       const struct stat *b)
{
	if (a->st_nlink < 2 && b->st_nlink < 2)
		return;
	if (a->st_nlink != b->st_nlink)
		fail_msg("%s: %u names, not %u", path, (unsigned)b->st_nlink, (unsigned)a->st_nlink);
	for (size_t i = 0; i < c->n; i++)
		if ((c->pairs[i].a == a->st_ino) != (c->pairs[i].b == b->st_ino))
			fail_msg("%s: linked to something else", path);
	if (c->n == c->cap) {
		c->cap = c->cap ? c->cap * 2 : 64;
		c->pairs = reallocarray(c->pairs, c->cap, sizeof(*c->pairs));
		assert_non_null(c->pairs);
	}
	c->pairs[c->n].a = a->st_ino;
	c->pairs[c->n++].b = b->st_ino;
}

static size_t count_names(const char *path)
{
	DIR *d = opendir(path);
	size_t n = 0;

	if (!d)
		fail_msg("open %s: %s", path, strerror(errno));
	while (readdir(d))
		n++;
	closedir(d);
	return n - 2;
}

static void same_entry(struct compared *c, const char *a, const char *b)
{
	char target[2][PATH_BYTES] = { "", "" };
	struct stat x, y;

	if (lstat(a, &x) < 0 || lstat(b, &y) < 0)
		fail_msg("%s or %s: %s", a, b, strerror(errno));
	c->entries++;
	if (x.st_mode != y.st_mode)
		fail_msg("%s: mode %o, not %o", b, y.st_mode, x.st_mode);
	if (x.st_uid != y.st_uid || x.st_gid != y.st_gid)
		fail_msg("%s: owner %u:%u, not %u:%u", b, y.st_uid, y.st_gid, x.st_uid, x.st_gid);
	if (x.st_mtim.tv_sec != y.st_mtim.tv_sec || x.st_mtim.tv_nsec != y.st_mtim.tv_nsec)
		fail_msg("%s: time %lld.%09ld, not %lld.%09ld", b, (long long)y.st_mtim.tv_sec,
			 y.st_mtim.tv_nsec, (long long)x.st_mtim.tv_sec, x.st_mtim.tv_nsec);
	if (x.st_rdev != y.st_rdev)
		fail_msg("%s: another device", b);
	same_xattrs(a, b);
	if (S_ISDIR(x.st_mode))
		return;
	same_links(c, b, &x, &y);
	if (S_ISREG(x.st_mode))
		same_content(a, b);
	if (S_ISREG(x.st_mode) && y.st_blocks > x.st_blocks + 256)
		fail_msg("%s: holes are filled", b);
	if (S_ISLNK(x.st_mode) &&
	    (readlink(a, target[0], PATH_BYTES - 1) < 0 ||
	     readlink(b, target[1], PATH_BYTES - 1) < 0 || strcmp(target[0], target[1]) != 0))
		fail_msg("%s: points to '%s', not '%s'", b, target[1], target[0]);
}

static void same_dir(struct compared *c, const char *a, const char *b)
{
	DIR *d = opendir(a);
	struct dirent *entry;

	if (!d)
		fail_msg("open %s: %s", a, strerror(errno));
	same_entry(c, a, b);
	if (count_names(a) != count_names(b))
		fail_msg("%s: %zu names, not %zu", b, count_names(b), count_names(a));
	while ((entry = readdir(d))) {
		char x[PATH_BYTES], y[PATH_BYTES];
		struct stat st;

		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		at_root(x, a, entry->d_name);
		at_root(y, b, entry->d_name);
		if (lstat(x, &st) == 0 && S_ISDIR(st.st_mode))
			same_dir(c, x, y);
		else
			same_entry(c, x, y);
	}
	closedir(d);
}

static size_t same_trees(struct fixture *f)
{
	struct compared c = { 0 };

	same_dir(&c, f->source, f->target);
	free(c.pairs);
	return c.entries;
}

/* Every inode of the target with its ctime: whatever touches anything shows in it. */
static void fingerprint_dir(const char *path, uint64_t *sum, uint64_t *entries)
{
	DIR *d = opendir(path);
	struct dirent *entry;

	assert_non_null(d);
	while ((entry = readdir(d))) {
		char full[PATH_BYTES];
		struct stat st;

		if (!strcmp(entry->d_name, ".."))
			continue;
		assert_int_equal(lstat(at_root(full, path, entry->d_name), &st), 0);
		*sum += (uint64_t)st.st_ino * 2654435761u ^
			(uint64_t)(st.st_ctim.tv_sec * 1000000000 + st.st_ctim.tv_nsec);
		++*entries;
		if (S_ISDIR(st.st_mode) && strcmp(entry->d_name, ".") != 0)
			fingerprint_dir(full, sum, entries);
	}
	closedir(d);
}

static uint64_t fingerprint(struct fixture *f)
{
	uint64_t sum = 0, entries = 0;

	fingerprint_dir(f->target, &sum, &entries);
	return sum + entries;
}

/* --- full --- */

static void a_full_sync_fills_an_empty_target(void **state)
{
	struct fixture *f = *state;

	make_tree(f);
	run_well(f, STG_PHASE_FULL);
	assert_int_equal(stat_of(f, "entries_scanned") + 1, same_trees(f)); /* and the root */
	assert_true(stat_of(f, "bytes_literal") >= 3700000);
	assert_int_equal(stat_of(f, "entries_deleted"), 0);
}

static void an_incremental_that_finds_nothing_touches_nothing(void **state)
{
	struct fixture *f = *state;
	uint64_t before;

	make_tree(f);
	run_well(f, STG_PHASE_FULL);
	before = fingerprint(f);
	for (int i = 0; i < 2; i++) {
		run_well(f, STG_PHASE_INCREMENTAL);
		assert_int_equal(stat_of(f, "entries_changed"), 0);
		assert_int_equal(stat_of(f, "bytes_literal"), 0);
		assert_true(fingerprint(f) == before);
	}
	same_trees(f);
}

static void a_full_sync_of_an_equal_target_sends_no_content(void **state)
{
	struct fixture *f = *state;

	make_tree(f);
	run_well(f, STG_PHASE_FULL);
	run_well(f, STG_PHASE_FULL);
	assert_int_equal(stat_of(f, "bytes_literal"), 0);
	assert_int_equal(stat_of(f, "entries_deleted"), 0);
	same_trees(f);
}

static void a_new_full_sync_puts_a_tampered_target_right(void **state)
{
	struct fixture *f = *state;
	char full[PATH_BYTES];
	struct stat st;

	make_tree(f);
	run_well(f, STG_PHASE_FULL);
	/* Size and time as before: only the content tells. */
	OK(lstat(at_root(full, f->target, "many/17"), &st));
	put(f, f->target, "many/17", "MANY/17", 7);
	set_mtime(f->target, "many/17", st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
	put(f, f->target, "many/18", "longer than it was", 18);
	take_away(f->target, "many/19");
	take_away(f->target, "d/e");
	OK(chmod(at_root(full, f->target, "many/20"), 0600));
	take_away(f->target, "many/21");
	OK(symlink("/etc/passwd", at_root(full, f->target, "many/21")));
	take_away(f->target, "many/22");
	OK(mkdir(at_root(full, f->target, "many/22"), 0755));
	put(f, f->target, "many/22/inside", "x", 1);
	take_away(f->target, "d/hollow");
	put(f, f->target, "d/hollow", "no directory", 12);
	take_away(f->target, "d/link");
	OK(symlink("elsewhere", at_root(full, f->target, "d/link")));
	put(f, f->target, "extra", "x", 1);
	OK(mkdir(at_root(full, f->target, "extra dir"), 0700));
	OK(mkdir(at_root(full, f->target, "extra dir/sub"), 0500));
	put(f, f->target, "extra dir/file", "x", 1);
	OK(chmod(at_root(full, f->target, "names"), 0700));
	run_well(f, STG_PHASE_FULL);
	same_trees(f);
	assert_true(stat_of(f, "entries_deleted") >= 4);
}

static void a_foreign_link_is_not_written_through(void **state)
{
	_cleanup_(buf_fini) struct buf b = BUF_INIT;
	struct fixture *f = *state;
	char a[PATH_BYTES], outside[PATH_BYTES];

	put_text(f, "file", "old content");
	run_well(f, STG_PHASE_FULL);
	/* Another name, outside of what is synced. */
	OK(link(at_root(a, f->target, "file"), at_root(outside, f->dir, "outside")));
	put_text(f, "file", "new content, longer");
	run_well(f, STG_PHASE_INCREMENTAL);
	same_trees(f);
	OK(io_read_file(AT_FDCWD, outside, 100, &b, &f->e));
	assert_true(bytes_eq(buf_view(&b), bytes_str("old content")));
	/* With metadata alone it is no different. */
	take_away(f->dir, "outside");
	OK(link(at_root(a, f->target, "file"), at_root(outside, f->dir, "outside")));
	OK(chmod(at_root(a, f->source, "file"), 0600));
	run_well(f, STG_PHASE_INCREMENTAL);
	same_trees(f);
	{
		struct stat st;

		OK(lstat(outside, &st));
		assert_int_equal(st.st_mode & 07777, 0644);
	}
}

/* --- incremental --- */

static void changes_of_every_kind_arrive(void **state)
{
	struct fixture *f = *state;
	char a[PATH_BYTES], b[PATH_BYTES];

	make_tree(f);
	run_well(f, STG_PHASE_FULL);
	put_text(f, "d/small", "something else\n");       /* changed */
	put_text(f, "many/new", "new\n");                 /* added */
	make_dir(f, "d/e/fresh");
	put_text(f, "d/e/fresh/file", "fresh\n");
	take_away(f->source, "many/1");                   /* deleted */
	take_away(f->source, "names");
	OK(rename(at_root(a, f->source, "larger"), at_root(b, f->source, "renamed")));
	OK(rename(at_root(a, f->source, "d/hollow"), at_root(b, f->source, "links/hollow")));
	OK(chmod(at_root(a, f->source, "many/2"), 0600)); /* metadata alone */
	OK(chmod(at_root(a, f->source, "links"), 0711));
	take_away(f->source, "many/3");                   /* other types */
	make_dir(f, "many/3");
	put_text(f, "many/3/inside", "x");
	take_away(f->source, "many/4");
	OK(symlink("5", at_root(a, f->source, "many/4")));
	take_away(f->source, "d/link");
	put_text(f, "d/link", "a file now");
	take_away(f->source, "d/fifo");
	make_dir(f, "d/fifo");
	run_well(f, STG_PHASE_INCREMENTAL);
	same_trees(f);

	/* And back again: directories in the way of files. */
	take_away(f->source, "many/3");
	put_text(f, "many/3", "a file again");
	take_away(f->source, "d/fifo");
	OK(mkfifo(at_root(a, f->source, "d/fifo"), 0600));
	take_away(f->source, "d/e/fresh");
	OK(symlink("deep", at_root(a, f->source, "d/e/fresh")));
	run_well(f, STG_PHASE_INCREMENTAL);
	same_trees(f);
	run_well(f, STG_PHASE_INCREMENTAL);
	assert_int_equal(stat_of(f, "entries_changed"), 0);
}

static void restored_times_do_not_hide_a_change(void **state)
{
	struct fixture *f = *state;
	char full[PATH_BYTES];
	struct stat st;

	put_text(f, "file", "content one");
	run_well(f, STG_PHASE_FULL);
	OK(lstat(at_root(full, f->source, "file"), &st));
	put_text(f, "file", "content two");
	set_mtime(f->source, "file", st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
	run_well(f, STG_PHASE_INCREMENTAL);
	same_trees(f);
}

static void what_was_only_touched_sends_no_content(void **state)
{
	struct fixture *f = *state;
	char full[PATH_BYTES];

	make_tree(f);
	run_well(f, STG_PHASE_FULL);
	set_mtime(f->source, "larger", 1234567890, 1);
	OK(chmod(at_root(full, f->source, "large"), 0604)); /* it has two names */
	run_well(f, STG_PHASE_INCREMENTAL);
	same_trees(f);
	assert_int_equal(stat_of(f, "bytes_literal"), 0);
	assert_true(stat_of(f, "entries_skipped_by_hash") >= 2);
}

static void a_change_in_the_middle_goes_as_a_delta(void **state)
{
	struct fixture *f = *state;
	char full[PATH_BYTES];
	int fd;

	put_noise(f, "file", 3000000, 7);
	run_well(f, STG_PHASE_FULL);
	fd = open(at_root(full, f->source, "file"), O_WRONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, "inserted", 8, 1500000), 8);
	assert_int_equal(pwrite(fd, "appended", 8, 3000000), 8);
	close(fd);
	run_well(f, STG_PHASE_INCREMENTAL);
	same_trees(f);
	assert_true(stat_of(f, "bytes_literal") < 300000);
	assert_true(stat_of(f, "bytes_matched") > 2700000);
}

static void link_groups_are_broken_and_joined(void **state)
{
	struct fixture *f = *state;
	char a[PATH_BYTES], b[PATH_BYTES];

	make_dir(f, "x");
	make_dir(f, "y");
	put_text(f, "x/a", "group one");
	make_link(f, "x/a", "x/b");
	make_link(f, "x/a", "y/c");
	make_link(f, "x/a", "y/d");
	put_text(f, "x/alone", "alone");
	put_noise(f, "y/big", 300000, 3);
	make_link(f, "y/big", "x/big too");
	run_well(f, STG_PHASE_FULL);
	same_trees(f);

	/* Parted: one gets content of its own, one goes, one is only another inode. */
	take_away(f->source, "x/b");
	put_text(f, "x/b", "on its own");
	take_away(f->source, "y/c");
	take_away(f->source, "x/big too");
	put_noise(f, "x/big too", 300000, 3);
	run_well(f, STG_PHASE_INCREMENTAL);
	same_trees(f);

	/* Joined: with a name that is there, across directories, under a new name. */
	make_link(f, "x/alone", "y/not alone");
	take_away(f->source, "x/b");
	make_link(f, "x/a", "x/b");
	take_away(f->source, "x/big too");
	make_link(f, "y/big", "x/big too");
	run_well(f, STG_PHASE_INCREMENTAL);
	same_trees(f);

	/* The content of a whole group changes through one of its names. */
	put_text(f, "y/d", "group one, changed");
	run_well(f, STG_PHASE_INCREMENTAL);
	same_trees(f);

	/* Two groups change members; a group moves. */
	OK(rename(at_root(a, f->source, "x/a"), at_root(b, f->source, "y/moved")));
	take_away(f->source, "x/alone");
	make_link(f, "y/moved", "x/alone");
	take_away(f->source, "x/b");
	make_link(f, "y/not alone", "x/b");
	run_well(f, STG_PHASE_INCREMENTAL);
	same_trees(f);
	run_well(f, STG_PHASE_INCREMENTAL);
	assert_int_equal(stat_of(f, "entries_changed"), 0);

	/* A target whose groups somebody has taken apart and joined wrongly. */
	take_away(f->target, "y/d");
	put(f, f->target, "y/d", "group one, changed", 18);
	take_away(f->target, "y/not alone");
	OK(link(at_root(a, f->target, "y/big"), at_root(b, f->target, "y/not alone")));
	run_well(f, STG_PHASE_FULL);
	same_trees(f);
}

static void a_name_of_a_group_becomes_a_directory(void **state)
{
	struct fixture *f = *state;
	char full[PATH_BYTES];

	put_text(f, "a", "one inode");
	make_link(f, "a", "b");
	make_link(f, "a", "c");
	run_well(f, STG_PHASE_FULL);
	take_away(f->source, "a");
	make_dir(f, "a");
	OK(chmod(at_root(full, f->source, "b"), 0600));
	run_well(f, STG_PHASE_INCREMENTAL);
	same_trees(f);
}

static void without_a_full_sync_nothing_else_runs(void **state)
{
	struct fixture *f = *state;

	put_text(f, "file", "x");
	assert_int_equal(run(f, STG_PHASE_INCREMENTAL), -ERR_FORBIDDEN);
	assert_int_equal(run(f, STG_PHASE_CUTOVER), -ERR_FORBIDDEN);
	assert_false(exists(f->target, ""));
}

static void a_cutover_goes_on_until_nothing_changes(void **state)
{
	struct fixture *f = *state;

	make_tree(f);
	run_well(f, STG_PHASE_FULL);
	put_text(f, "d/small", "last words\n");
	take_away(f->source, "many");
	run_well(f, STG_PHASE_CUTOVER);
	same_trees(f);
}

/* --- what is kept --- */

static void no_delete_keeps_what_is_extra(void **state)
{
	_cleanup_(buf_fini) struct buf b = BUF_INIT;
	struct fixture *f = *state;
	char full[PATH_BYTES];

	f->opt.no_delete = true;
	put_text(f, "file", "x");
	put_text(f, "gone", "x");
	make_dir(f, "dir");
	put_text(f, "dir/inside", "x");
	run_well(f, STG_PHASE_FULL);
	put(f, f->target, "extra", "x", 1);
	take_away(f->source, "gone");
	run_well(f, STG_PHASE_INCREMENTAL);
	assert_true(exists(f->target, "gone"));
	run_well(f, STG_PHASE_FULL);
	assert_true(exists(f->target, "extra"));
	assert_true(exists(f->target, "gone"));

	/* A directory that is not empty, in the way of a file, stays and is told. */
	take_away(f->source, "dir");
	put_text(f, "dir", "a file");
	put_text(f, "file", "goes all the same");
	OK(run(f, STG_PHASE_INCREMENTAL));
	assert_int_equal(f->partial, 23);
	assert_true(exists(f->target, "dir/inside"));
	OK(io_read_file(AT_FDCWD, at_root(full, f->target, "file"), 100, &b, &f->e));
	assert_true(bytes_eq(buf_view(&b), bytes_str("goes all the same")));
	OK(run(f, STG_PHASE_FULL));
	assert_int_equal(f->partial, 23);
	assert_true(exists(f->target, "dir/inside"));
}

static void excluded_paths_are_never_deleted(void **state)
{
	struct fixture *f = *state;
	char full[PATH_BYTES];

	f->filter = (struct stg_filter_arg){
		.kind = STG_FILTER_EXCLUDE,
		.text = (char *)(uintptr_t)"*.keep",
		.origin = (char *)(uintptr_t)"test",
	};
	f->opt.filters = (struct stg_filter_args){ .v = &f->filter, .n = 1, .cap = 1 };
	make_dir(f, "dir");
	put_text(f, "dir/file", "x");
	put_text(f, "dir/hidden.keep", "not sent");
	run_well(f, STG_PHASE_FULL);
	assert_false(exists(f->target, "dir/hidden.keep"));
	put(f, f->target, "dir/own.keep", "x", 1);
	OK(mkdir(at_root(full, f->target, "extra"), 0755));
	put(f, f->target, "extra/own.keep", "x", 1);
	put(f, f->target, "extra/other", "x", 1);
	run_well(f, STG_PHASE_FULL);
	assert_true(exists(f->target, "dir/own.keep"));
	assert_true(exists(f->target, "extra/own.keep"));
	assert_false(exists(f->target, "extra/other"));
	take_away(f->source, "dir");
	run_well(f, STG_PHASE_INCREMENTAL);
	assert_true(exists(f->target, "dir/own.keep"));
	assert_false(exists(f->target, "dir/file"));
}

/* --- broken connections --- */

static void a_broken_connection_is_made_again(void **state)
{
	static const struct {
		enum fault fault;
		uint64_t after;
		unsigned times;
	} rows[] = {
		/* Either session may be the one that carries the large files. */
		{ FAULT_KILL, 500000, 2 },
		{ FAULT_CUT, 500000, 2 },
		{ FAULT_CUT, 20001, 4 },
		{ FAULT_KILL, 1500000, 2 },
	};
	struct fixture *f = *state;

	make_tree(f);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		f->con.fault = rows[i].fault;
		f->con.after = rows[i].after;
		f->con.times = rows[i].times;
		take_away(f->dir, "state");
		if (i)
			take_away(f->dir, "target");
		run_well(f, STG_PHASE_FULL);
		same_trees(f);
		if (stat_of(f, "reconnects") < 1)
			fail_msg("row %zu: no connection was broken", i);
	}
}

static void manual_mode_stops_and_goes_on_at_the_next_call(void **state)
{
	static const enum fault faults[] = { FAULT_CUT, FAULT_KILL, FAULT_SIGNAL };
	struct fixture *f = *state;

	make_tree(f);
	f->opt.sessions = 1;
	f->opt.compress = STG_COMPRESS_OFF;
	for (size_t i = 0; i < ARRAY_SIZE(faults); i++) {
		f->opt.resume_mode = faults[i] == FAULT_SIGNAL ? STG_RESUME_AUTO : STG_RESUME_MANUAL;
		f->con.fault = faults[i];
		f->con.after = 3700000; /* the large files are through, most small ones are not */
		f->con.answered = true;
		f->con.times = 1;
		if (i) {
			take_away(f->dir, "state");
			take_away(f->dir, "target");
		}
		assert_int_equal(run(f, STG_PHASE_FULL), faults[i] == FAULT_SIGNAL ?
				 -ERR_CANCELLED : -ERR_LOST);
		assert_int_equal(run(f, STG_PHASE_INCREMENTAL), -ERR_FORBIDDEN);
		f->con.times = 0;
		run_well(f, STG_PHASE_FULL);
		same_trees(f);
		if (!stat_of(f, "entries_acked_before"))
			fail_msg("fault %d: all was sent again", faults[i]);
	}
}

static void a_broken_incremental_is_made_good(void **state)
{
	struct fixture *f = *state;
	char name[32];

	make_tree(f);
	run_well(f, STG_PHASE_FULL);
	for (int i = 0; i < 300; i++) {
		snprintf(name, sizeof(name), "many/%d", i * 2);
		if (i % 3)
			put_noise(f, name, 5000, (uint32_t)i);
		else
			take_away(f->source, name);
	}
	put_noise(f, "larger", 2500000, 99);
	f->opt.resume_mode = STG_RESUME_MANUAL;
	f->con.fault = FAULT_KILL;
	f->con.times = 1;
	f->con.after = 400000;
	assert_int_equal(run(f, STG_PHASE_INCREMENTAL), -ERR_LOST);
	f->con.times = 0;
	run_well(f, STG_PHASE_INCREMENTAL);
	same_trees(f);
}

static void no_receiver_at_all_is_an_error_at_once(void **state)
{
	struct fixture *f = *state;

	put_text(f, "file", "x");
	f->con.fault = FAULT_CUT;
	f->con.times = 1000;
	f->con.after = 1;
	assert_int_equal(run(f, STG_PHASE_FULL), -ERR_LOST);
}

/* --- big files --- */

#define BIG_BYTES (67u << 20)

static bool has_leftovers(struct fixture *f, const char *path)
{
	char full[PATH_BYTES];
	DIR *d = opendir(at_root(full, f->target, path));
	struct dirent *entry;
	bool found = false;

	assert_non_null(d);
	while ((entry = readdir(d)))
		found |= !strncmp(entry->d_name, TP_TEMP_PREFIX, strlen(TP_TEMP_PREFIX));
	closedir(d);
	return found;
}

/* Noise with a hole of some leaves in the middle, a second name, and odd permissions. */
static void make_big(struct fixture *f)
{
	char full[PATH_BYTES];

	make_dir(f, "d");
	put_noise(f, "d/big", BIG_BYTES, 77);
	at_root(full, f->source, "d/big");
	assert_int_equal(truncate(full, BIG_BYTES + (20 << 20)), 0);
	{
		_cleanup_close_ int fd = open(full, O_WRONLY | O_CLOEXEC);

		assert_int_equal(pwrite(fd, "end", 3, BIG_BYTES + (20 << 20) - 3), 3);
	}
	OK(chmod(full, 04751));
	make_link(f, "d/big", "d/name");
	set_mtime(f->source, "d/big", 1234567890, 123456789);
}

static void a_big_file_goes_in_segments(void **state)
{
	struct fixture *f = *state;
	char full[PATH_BYTES];
	struct stat st;

	make_big(f);
	run_well(f, STG_PHASE_FULL);
	same_trees(f);
	assert_false(has_leftovers(f, "d"));
	assert_true(stat_of(f, "bytes_literal") >= BIG_BYTES);
	assert_true(stat_of(f, "bytes_literal") < BIG_BYTES + (9 << 20));
	assert_int_equal(stat(at_root(full, f->target, "d/big"), &st), 0);
	assert_true(st.st_blocks * 512 < BIG_BYTES + (10 << 20));

	/* Its hash is known, without it having been read as a whole: only metadata goes. */
	OK(chmod(at_root(full, f->source, "d/big"), 0640));
	run_well(f, STG_PHASE_INCREMENTAL);
	same_trees(f);
	assert_int_equal(stat_of(f, "bytes_literal"), 0);
	assert_int_equal(stat_of(f, "bytes_matched"), 0);
}

/* In place, moved, and cut off: what the target has is copied there. */
static void what_a_big_file_had_before_is_copied(void **state)
{
	struct fixture *f = *state;
	char full[PATH_BYTES], from[PATH_BYTES];
	struct stat st;

	make_big(f);
	run_well(f, STG_PHASE_FULL);
	at_root(full, f->source, "d/big");
	{
		_cleanup_close_ int fd = open(full, O_WRONLY | O_CLOEXEC);

		for (int i = 0; i < 20; i++)
			assert_int_equal(pwrite(fd, "changed", 7, (off_t)i * 3500000), 7);
	}
	run_well(f, STG_PHASE_INCREMENTAL);
	same_trees(f);
	assert_true(stat_of(f, "bytes_literal") <= 22 * 16384);
	assert_true(stat_of(f, "bytes_matched") > 66 << 20);
	assert_int_equal(stat(at_root(full, f->target, "d/big"), &st), 0);
	assert_true(st.st_blocks * 512 < BIG_BYTES + (10 << 20));

	/* Bytes in front of all that was there. */
	{
		_cleanup_free_ char *p = malloc(BIG_BYTES + 5);
		_cleanup_close_ int fd = -1;

		memcpy(p, "front", 5);
		fd = open(at_root(from, f->source, "d/big"), O_RDWR | O_CLOEXEC);
		assert_int_equal(io_pread_full(fd, p + 5, BIG_BYTES, 0), BIG_BYTES);
		assert_int_equal(ftruncate(fd, 0), 0);
		assert_int_equal(pwrite(fd, p, BIG_BYTES + 5, 0), BIG_BYTES + 5);
	}
	run_well(f, STG_PHASE_INCREMENTAL);
	same_trees(f);
	assert_true(stat_of(f, "bytes_literal") < 8 * 65536);

	/* The target has something else than is believed: then it goes whole. */
	assert_int_equal(truncate(at_root(full, f->target, "d/big"), 1000), 0);
	assert_int_equal(truncate(at_root(from, f->source, "d/big"), BIG_BYTES), 0);
	run_well(f, STG_PHASE_INCREMENTAL);
	same_trees(f);
	assert_int_equal(stat_of(f, "bytes_literal"), BIG_BYTES);
	assert_false(has_leftovers(f, "d"));
}

static void a_broken_connection_costs_some_segments(void **state)
{
	static const enum fault faults[] = { FAULT_CUT, FAULT_KILL };
	struct fixture *f = *state;

	make_big(f);
	for (size_t i = 0; i < ARRAY_SIZE(faults); i++) {
		f->con.fault = faults[i];
		f->con.times = 3;
		f->con.after = 17 << 20;
		run_well(f, STG_PHASE_FULL);
		same_trees(f);
		assert_false(has_leftovers(f, "d"));
		assert_true(stat_of(f, "reconnects") >= 1);
		/* Three sessions broke; each had some segments on the wire. */
		assert_true(stat_of(f, "bytes_literal") < BIG_BYTES + 3 * (40 << 20));
		take_away(f->target, "d");
		take_away(f->state, "");
	}
}

/* What the first run has sent of it is not sent again, unless the source has changed. */
static void a_run_that_was_stopped_goes_on_inside_a_big_file(void **state)
{
	struct fixture *f = *state;

	make_big(f);
	for (int changed = 0; changed < 2; changed++) {
		char full[PATH_BYTES];

		f->con.fault = FAULT_SIGNAL;
		f->con.times = 1;
		/* One of two sessions has sent a segment, then. */
		f->con.after = 17 << 20;
		assert_int_equal(run(f, STG_PHASE_FULL), -ERR_CANCELLED);
		assert_false(exists(f->target, "d/big"));
		assert_true(has_leftovers(f, "d"));
		f->con.fault = FAULT_NONE;
		if (changed) {
			_cleanup_close_ int fd = open(at_root(full, f->source, "d/big"),
						      O_WRONLY | O_CLOEXEC);

			/* Where the first run had not come to. */
			assert_int_equal(pwrite(fd, "x", 1, BIG_BYTES - 5), 1);
		}
		run_well(f, STG_PHASE_FULL);
		same_trees(f);
		assert_false(has_leftovers(f, "d"));
		assert_true(stat_of(f, "bytes_matched") >= 8 << 20);
		assert_true(stat_of(f, "bytes_literal") <= BIG_BYTES - (7 << 20));
		take_away(f->target, "d");
		take_away(f->state, "");
	}
	/* What is begun and then goes from the source leaves nothing. */
	f->con.fault = FAULT_SIGNAL;
	assert_int_equal(run(f, STG_PHASE_FULL), -ERR_CANCELLED);
	assert_true(has_leftovers(f, "d"));
	f->con.fault = FAULT_NONE;
	take_away(f->source, "d/big");
	take_away(f->source, "d/name");
	run_well(f, STG_PHASE_FULL);
	same_trees(f);
	assert_false(has_leftovers(f, "d"));
}

/* A directory that is to go is in its way, and another one that must stay. */
static void a_big_file_takes_the_place_of_a_directory(void **state)
{
	struct fixture *f = *state;

	make_big(f);
	run_well(f, STG_PHASE_FULL);
	take_away(f->target, "d/big");
	{
		char full[PATH_BYTES];

		OK(mkdir(at_root(full, f->target, "d/big"), 0755));
		put(f, f->target, "d/big/extra", "x", 1);
	}
	run_well(f, STG_PHASE_FULL);
	same_trees(f);
	assert_false(has_leftovers(f, "d"));
	/* What was gathered has waited for the removal. */
	assert_int_equal(stat_of(f, "bytes_literal"), 0);
}

/* --- what cannot be read --- */

static int as_nobody(struct fixture *f)
{
	char full[PATH_BYTES];

	if (run(f, STG_PHASE_FULL) < 0 || f->partial)
		return 1;
	if (chmod(at_root(full, f->source, "locked"), 0000) < 0 ||
	    unlink(at_root(full, f->source, "gone")) < 0)
		return 2;
	put_text(f, "new", "arrives all the same");
	if (run(f, STG_PHASE_INCREMENTAL) < 0 || f->partial != 23)
		return 3;
	/* Nothing is deleted: neither what could not be seen nor anything else. */
	if (!exists(f->target, "locked/file") || !exists(f->target, "gone"))
		return 4;
	if (!exists(f->target, "new"))
		return 5;
	if (chmod(at_root(full, f->source, "locked"), 0755) < 0)
		return 6;
	if (run(f, STG_PHASE_INCREMENTAL) < 0 || f->partial)
		return 7;
	if (exists(f->target, "gone") || !exists(f->target, "locked/file"))
		return 8;
	same_trees(f);

	/* Nor in a full sync, which forgets what was acknowledged: the next phase finds it. */
	put_text(f, "locked/sub/old", "x");
	put_text(f, "gone", "x");
	if (run(f, STG_PHASE_INCREMENTAL) < 0 || f->partial)
		return 9;
	if (chmod(at_root(full, f->source, "locked"), 0000) < 0 ||
	    unlink(at_root(full, f->source, "gone")) < 0)
		return 10;
	if (run(f, STG_PHASE_FULL) < 0 || f->partial != 23)
		return 11;
	if (!exists(f->target, "gone") || !exists(f->target, "locked/sub/old"))
		return 12;
	if (chmod(at_root(full, f->source, "locked"), 0755) < 0 ||
	    unlink(at_root(full, f->source, "locked/sub/old")) < 0)
		return 13;
	if (run(f, STG_PHASE_INCREMENTAL) < 0 || f->partial)
		return 14;
	if (exists(f->target, "gone") || exists(f->target, "locked/sub/old"))
		return 15;
	same_trees(f);
	return 0;
}

static void an_unreadable_directory_deletes_nothing(void **state)
{
	struct fixture *f = *state;
	char full[PATH_BYTES];
	int status = 0;
	pid_t pid;

	make_dir(f, "locked");
	make_dir(f, "locked/sub");
	put_text(f, "locked/file", "x");
	put_text(f, "gone", "x");
	if (geteuid() != 0) {
		assert_int_equal(as_nobody(f), 0);
		return;
	}
	/* Root reads everything, so a child is somebody else. */
	OK(chown(f->dir, NOBODY, NOBODY));
	OK(chown(f->source, NOBODY, NOBODY));
	OK(chown(at_root(full, f->source, "locked"), NOBODY, NOBODY));
	OK(chown(at_root(full, f->source, "locked/file"), NOBODY, NOBODY));
	OK(chown(at_root(full, f->source, "locked/sub"), NOBODY, NOBODY));
	OK(chown(at_root(full, f->source, "gone"), NOBODY, NOBODY));
	if (access(RECEIVER_PATH, X_OK) < 0)
		fail_msg("%s is missing", RECEIVER_PATH);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		if (setresgid(NOBODY, NOBODY, NOBODY) < 0 || setresuid(NOBODY, NOBODY, NOBODY) < 0)
			_exit(99);
		/* A build below a home of mode 0700 is out of reach for anybody else. */
		if (access(RECEIVER_PATH, X_OK) < 0)
			_exit(98);
		_exit(as_nobody(f));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 98) {
		print_message("skipped: other users cannot reach the build directory\n");
		skip();
	}
	assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
#define PHASE_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		PHASE_TEST(an_unreadable_directory_deletes_nothing),
		PHASE_TEST(a_full_sync_fills_an_empty_target),
		PHASE_TEST(an_incremental_that_finds_nothing_touches_nothing),
		PHASE_TEST(a_full_sync_of_an_equal_target_sends_no_content),
		PHASE_TEST(a_new_full_sync_puts_a_tampered_target_right),
		PHASE_TEST(a_foreign_link_is_not_written_through),
		PHASE_TEST(changes_of_every_kind_arrive),
		PHASE_TEST(restored_times_do_not_hide_a_change),
		PHASE_TEST(what_was_only_touched_sends_no_content),
		PHASE_TEST(a_change_in_the_middle_goes_as_a_delta),
		PHASE_TEST(link_groups_are_broken_and_joined),
		PHASE_TEST(a_name_of_a_group_becomes_a_directory),
		PHASE_TEST(without_a_full_sync_nothing_else_runs),
		PHASE_TEST(a_cutover_goes_on_until_nothing_changes),
		PHASE_TEST(no_delete_keeps_what_is_extra),
		PHASE_TEST(excluded_paths_are_never_deleted),
		PHASE_TEST(a_broken_connection_is_made_again),
		PHASE_TEST(a_big_file_goes_in_segments),
		PHASE_TEST(what_a_big_file_had_before_is_copied),
		PHASE_TEST(a_broken_connection_costs_some_segments),
		PHASE_TEST(a_run_that_was_stopped_goes_on_inside_a_big_file),
		PHASE_TEST(a_big_file_takes_the_place_of_a_directory),
		PHASE_TEST(manual_mode_stops_and_goes_on_at_the_next_call),
		PHASE_TEST(a_broken_incremental_is_made_good),
		PHASE_TEST(no_receiver_at_all_is_an_error_at_once),
	};
#undef PHASE_TEST

	return cmocka_run_group_tests(tests, NULL, NULL);
}
