/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names are "00000000000000000042.r", and ".p" for what may go stale.  A report is written
 * under a name with a dot and linked to its own, which fails when another process has taken
 * that number meanwhile: then the next one is tried.
 */
#include "agent/spool.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "common/io.h"
#include "common/log.h"
#include "common/macro.h"

#define NAME_SIZE 32
#define LOCK_NAME ".lock"
#define TEMPORARY ".new." /* and the writer's pid */

struct agt_spool {
	struct agt_spool_opts o;
	int dir, rejected;
	int lock; /* -1: not taken */
	char path[512]; /* for messages */
};

static const char *name_of(const struct agt_spool_item *i, char out[NAME_SIZE])
{
	snprintf(out, NAME_SIZE, "%020" PRIu64 ".%c", i->seq, i->stale ? 'p' : 'r');
	return out;
}

static bool parse_name(const char *name, struct agt_spool_item *ret)
{
	size_t n = strspn(name, "0123456789");

	if (n != 20 || name[20] != '.' || (name[21] != 'p' && name[21] != 'r') || name[22])
		return false;
	*ret = (struct agt_spool_item){ .seq = strtoull(name, NULL, 10),
					.stale = name[21] == 'p' };
	/* The last number of all has no next one, and is what too large ones come to. */
	return ret->seq != UINT64_MAX;
}

/* ---- opening ---- */

/* What root makes below a directory of the service's user is to be that user's. */
static int open_dir(int at, const char *parent, const char *name, struct err *e)
{
	_cleanup_close_ int fd = -1;
	struct stat above, st;

	if (mkdirat(at, name, 0700) < 0 && errno != EEXIST)
		return err_sys(e, "make directory %s/%s", parent, name);
	fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return err_sys(e, "open directory %s/%s", parent, name);
	if (geteuid() == 0 && fstat(at, &above) == 0 && fstat(fd, &st) == 0 &&
	    st.st_uid != above.st_uid && fchown(fd, above.st_uid, above.st_gid) < 0)
		return err_sys(e, "change the owner of %s/%s", parent, name);
	return TAKE_FD(fd);
}

static void remove_unfinished(struct agt_spool *s)
{
	int fd = openat(s->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *entry;

	while (d && (entry = readdir(d))) {
		long pid;

		if (strncmp(entry->d_name, TEMPORARY, sizeof(TEMPORARY) - 1) != 0)
			continue;
		pid = strtol(entry->d_name + sizeof(TEMPORARY) - 1, NULL, 10);
		if (pid == getpid() || kill((pid_t)pid, 0) == 0 || errno == EPERM)
			continue;
		unlinkat(s->dir, entry->d_name, 0);
	}
	if (d)
		closedir(d);
	else
		close_p_(&fd);
}

int agt_spool_open(const char *state_dir, const struct agt_spool_opts *opts,
		   struct agt_spool **ret, struct err *e)
{
	_cleanup_close_ int at = open(state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_(agt_spool_closep) struct agt_spool *s = calloc(1, sizeof(*s));

	if (!s)
		return err_sysn(e, -ENOMEM, "open the spool");
	s->dir = s->rejected = s->lock = -1;
	if (at < 0)
		return err_sys(e, "open state directory %s", state_dir);
	if (opts)
		s->o = *opts;
	s->o.max_count = s->o.max_count ? s->o.max_count : 10000;
	s->o.max_bytes = s->o.max_bytes ? s->o.max_bytes : 64u << 20;
	s->o.max_rejected = s->o.max_rejected ? s->o.max_rejected : 100;
	snprintf(s->path, sizeof(s->path), "%s/" AGT_SPOOL_NAME, state_dir);
	s->dir = open_dir(at, state_dir, AGT_SPOOL_NAME, e);
	if (s->dir < 0)
		return s->dir;
	s->rejected = open_dir(s->dir, s->path, AGT_SPOOL_REJECTED, e);
	if (s->rejected < 0)
		return s->rejected;
	remove_unfinished(s);
	*ret = TAKE_PTR(s);
	return 0;
}

void agt_spool_close(struct agt_spool *s)
{
	if (!s)
		return;
	close_p_(&s->lock);
	close_p_(&s->rejected);
	close_p_(&s->dir);
	free(s);
}

int agt_spool_lock(struct agt_spool *s, struct err *e)
{
	_cleanup_close_ int fd = -1;

	if (s->lock >= 0)
		return 0;
	fd = openat(s->dir, LOCK_NAME, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_sys(e, "open %s/" LOCK_NAME, s->path);
	if (flock(fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK)
		return err_set(e, -ERR_LOCKED, "another process is sending what is in %s",
			       s->path);
	s->lock = TAKE_FD(fd);
	return 0;
}

/* ---- listing ---- */

static int by_seq(const void *a, const void *b)
{
	const struct agt_spool_item *x = a, *y = b;

	return x->seq < y->seq ? -1 : x->seq > y->seq;
}

static int list_dir(struct agt_spool *s, int at, struct agt_spool_item **ret, size_t *ret_n,
		    struct err *e)
{
	int fd = openat(at, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	_cleanup_free_ struct agt_spool_item *v = NULL;
	struct dirent *entry;
	size_t n = 0, cap = 0;

	if (!d) {
		close_p_(&fd);
		return err_sys(e, "read directory %s", s->path);
	}
	while ((entry = readdir(d))) {
		struct agt_spool_item item, *more;
		struct stat st;

		if (!parse_name(entry->d_name, &item) ||
		    fstatat(at, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		/* Nothing of ours: it must hold up no report, as a pipe without a writer would. */
		if (!S_ISREG(st.st_mode))
			continue;
		item.bytes = (size_t)st.st_size;
		if (n == cap) {
			cap = cap ? 2 * cap : 64;
			more = realloc(v, cap * sizeof(*v));
			if (!more) {
				closedir(d);
				return err_sysn(e, -ENOMEM, "read directory %s", s->path);
			}
			v = more;
		}
		v[n++] = item;
	}
	closedir(d);
	if (n)
		qsort(v, n, sizeof(*v), by_seq);
	*ret = TAKE_PTR(v);
	*ret_n = n;
	return 0;
}

int agt_spool_list(struct agt_spool *s, struct agt_spool_item **ret, size_t *ret_n,
		   struct err *e)
{
	return list_dir(s, s->dir, ret, ret_n, e);
}

int agt_spool_stats(struct agt_spool *s, struct agt_spool_stats *ret, struct err *e)
{
	_cleanup_free_ struct agt_spool_item *v = NULL, *bad = NULL;
	struct agt_spool_stats st = { 0 };
	int r = list_dir(s, s->dir, &v, &st.count, e);

	if (r == 0)
		r = list_dir(s, s->rejected, &bad, &st.rejected, e);
	if (r < 0)
		return r;
	for (size_t i = 0; i < st.count; i++)
		st.bytes += v[i].bytes;
	*ret = st;
	return 0;
}

/* ---- putting ---- */

static int sync_dir(struct agt_spool *s, int fd, struct err *e)
{
	/* Some file systems cannot, and then need not (EINVAL). */
	if (fsync(fd) < 0 && errno != EINVAL)
		return err_sys(e, "sync directory %s", s->path);
	return 0;
}

/*
 * Make room for one of so many bytes; only what may go stale goes.  1: there is room, or the new
 * one must not be dropped; 0: it is the one to be dropped.
 */
static int make_room(struct agt_spool *s, struct agt_spool_item *v, size_t n, size_t bytes,
		     bool may_go_stale)
{
	size_t count = n, all = 0, gone = 0;
	char name[NAME_SIZE];

	for (size_t i = 0; i < n; i++)
		all += v[i].bytes;
	for (size_t i = 0; i < n && (count >= s->o.max_count || all + bytes > s->o.max_bytes);
	     i++) {
		if (!v[i].stale)
			continue;
		if (unlinkat(s->dir, name_of(&v[i], name), 0) == 0)
			gone++;
		count--;
		all -= v[i].bytes;
	}
	if (gone)
		log_debug("%s is full: %zu old reports of progress were dropped", s->path, gone);
	return !may_go_stale || (count < s->o.max_count && all + bytes <= s->o.max_bytes);
}

static int write_new(struct agt_spool *s, const char *name, struct bytes content, struct err *e)
{
	_cleanup_close_ int fd = -1;
	int r;

	/* One left by a killed process of our number may be a second name of its report. */
	unlinkat(s->dir, name, 0);
	fd = openat(s->dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_sys(e, "create %s/%s", s->path, name);
	r = io_write_all(fd, content.p, content.n);
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	return r < 0 ? err_sysn(e, r, "write %s/%s", s->path, name) : 0;
}

int agt_spool_put(struct agt_spool *s, struct bytes content, bool may_go_stale, struct err *e)
{
	_cleanup_free_ struct agt_spool_item *v = NULL;
	struct agt_spool_item item = { .stale = may_go_stale };
	char temporary[NAME_SIZE], name[NAME_SIZE];
	size_t n = 0;
	int r;

	if (content.n > AGT_SPOOL_REPORT_MAX)
		return err_set(e, -EFBIG, "a report of %zu bytes is too large", content.n);
	r = agt_spool_list(s, &v, &n, e);
	if (r < 0)
		return r;
	if (!make_room(s, v, n, content.n, may_go_stale)) {
		log_debug("%s is full: a report of progress was dropped", s->path);
		return 0;
	}
	snprintf(temporary, sizeof(temporary), TEMPORARY "%d", (int)getpid());
	r = write_new(s, temporary, content, e);
	item.seq = n ? v[n - 1].seq + 1 : 1;
	while (r == 0 && linkat(s->dir, temporary, s->dir, name_of(&item, name), 0) < 0) {
		if (errno != EEXIST)
			r = err_sys(e, "put a report into %s", s->path);
		item.seq++;
	}
	unlinkat(s->dir, temporary, 0);
	return r == 0 ? sync_dir(s, s->dir, e) : r;
}

/* ---- taking ---- */

int agt_spool_read(struct agt_spool *s, const struct agt_spool_item *item, struct buf *out,
		   struct err *e)
{
	char name[NAME_SIZE];

	return io_read_file(s->dir, name_of(item, name), AGT_SPOOL_REPORT_MAX, out, e);
}

int agt_spool_done(struct agt_spool *s, const struct agt_spool_item *item, struct err *e)
{
	char name[NAME_SIZE];

	if (unlinkat(s->dir, name_of(item, name), 0) < 0 && errno != ENOENT)
		return err_sys(e, "remove %s/%s", s->path, name);
	return sync_dir(s, s->dir, e);
}

int agt_spool_reject(struct agt_spool *s, const struct agt_spool_item *item, struct err *e)
{
	_cleanup_free_ struct agt_spool_item *v = NULL;
	struct agt_spool_item to = *item;
	char name[NAME_SIZE], there[NAME_SIZE];
	size_t n = 0;
	int r = list_dir(s, s->rejected, &v, &n, e);

	if (r < 0)
		return r;
	/* Numbers begin anew when the spool was empty; here they must not come again. */
	if (n && v[n - 1].seq >= to.seq)
		to.seq = v[n - 1].seq + 1;
	if (renameat(s->dir, name_of(item, name), s->rejected, name_of(&to, there)) < 0 &&
	    errno != ENOENT)
		return err_sys(e, "move %s/%s aside", s->path, name);
	for (size_t i = 0; i + s->o.max_rejected < n + 1; i++)
		unlinkat(s->rejected, name_of(&v[i], name), 0);
	r = sync_dir(s, s->rejected, e);
	return r == 0 ? sync_dir(s, s->dir, e) : r;
}
