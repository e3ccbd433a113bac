/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Depth first; the names of a directory are read at once and sorted, what they are is asked
 * when it is their turn.  Only the deepest levels keep a descriptor: the others are opened
 * again on the way back, and must be what they were.
 */
#include "transport/receive/list.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

#include "common/io.h"
#include "transport/frame.h"

#define LIST_FRAME_BYTES (64u << 10)
#define LEVELS_OPEN      16

struct level {
	int fd; /* -1: closed for now */
	dev_t dev;
	ino_t ino;
	int error;         /* it could not be read to its end */
	struct buf names;  /* each with its NUL */
	uint32_t *order;   /* offsets in names */
	size_t count, next;
	size_t path_bytes; /* of the job's path, up to this level */
};

struct list {
	struct rcv_job job; /* first */
	bool recurse, begun;
	struct buf path;
	struct level *levels;
	size_t depth, room;
};

static void level_fini(struct level *l)
{
	if (l->fd >= 0)
		close(l->fd);
	buf_fini(&l->names);
	free(l->order);
}

static void list_free(struct rcv_job *job)
{
	struct list *l = (struct list *)job;

	while (l->depth)
		level_fini(&l->levels[--l->depth]);
	free(l->levels);
	buf_fini(&l->path);
	free(l);
}

struct linux_dirent64_head {
	uint64_t ino;
	int64_t off;
	uint16_t record_bytes;
	uint8_t type;
	char name[];
};

static bool skipped(const char *name, bool root)
{
	return !strcmp(name, ".") || !strcmp(name, "..") || (root && !strcmp(name, TP_OWN_DIR));
}

static int level_names(struct level *l, uint8_t *scratch, bool root)
{
	for (;;) {
		long n = syscall(SYS_getdents64, l->fd, scratch, RCV_SCRATCH_BYTES);

		if (n < 0)
			return -errno;
		if (n == 0)
			return 0;
		for (long at = 0; at < n;) {
			const struct linux_dirent64_head *d = (const void *)(scratch + at);

			at += d->record_bytes;
			if (skipped(d->name, root))
				continue;
			if (buf_put(&l->names, d->name, strlen(d->name) + 1) < 0)
				return -ENOMEM;
			l->count++;
		}
	}
}

static int by_name(const void *a, const void *b, void *names)
{
	return strcmp((const char *)names + *(const uint32_t *)a,
		      (const char *)names + *(const uint32_t *)b);
}

static int level_sort(struct level *l)
{
	size_t at = 0;

	if (!l->count)
		return 0;
	if (l->names.n > UINT32_MAX)
		return -EFBIG;
	l->order = malloc(l->count * sizeof(*l->order));
	if (!l->order)
		return -ENOMEM;
	for (size_t i = 0; i < l->count; i++) {
		l->order[i] = (uint32_t)at;
		at += strlen((const char *)l->names.p + at) + 1;
	}
	qsort_r(l->order, l->count, sizeof(*l->order), by_name, l->names.p);
	return 0;
}

/* Takes fd.  0 or -errno: then there is no new level. */
static int list_push(struct list *l, struct rcv_env *v, int fd)
{
	struct level new = { .fd = fd, .path_bytes = buf_len(&l->path) };
	struct stat st;
	int r;

	if (fstat(fd, &st) < 0) {
		r = -errno;
		goto undo;
	}
	new.dev = st.st_dev;
	new.ino = st.st_ino;
	if (l->depth == l->room) {
		size_t room = l->room ? l->room * 2 : 16;
		struct level *p = reallocarray(l->levels, room, sizeof(*p));

		r = -ENOMEM;
		if (!p)
			goto undo;
		l->levels = p;
		l->room = room;
	}
	/* What could be read is told, then the error. */
	r = level_names(&new, v->scratch, new.path_bytes == 0);
	if (r == -ENOMEM)
		goto undo;
	new.error = -r;
	r = level_sort(&new);
	if (r < 0)
		goto undo;
	l->levels[l->depth++] = new;
	if (l->depth > LEVELS_OPEN) {
		struct level *far = &l->levels[l->depth - 1 - LEVELS_OPEN];

		if (far->fd >= 0)
			close(far->fd);
		far->fd = -1;
	}
	return 0;
undo:
	level_fini(&new);
	return r;
}

static int level_reopen(struct list *l, struct level *at, int rootfd)
{
	struct stat st;

	at->fd = io_open_dir_below(rootfd, buf_view(&l->path), O_RDONLY);
	if (at->fd < 0) {
		int r = at->fd;

		at->fd = -1;
		return r;
	}
	if (fstat(at->fd, &st) < 0)
		return -errno;
	return st.st_dev == at->dev && st.st_ino == at->ino ? 0 : -ESTALE;
}

static int put_mark(struct buf *out, uint8_t kind, int error)
{
	struct tp_item_entry item = { .kind = kind, .error = (uint32_t)error };

	return tp_put_item(out, &item);
}

static bool is_mount(const struct level *at, const struct statx *stx)
{
	if (stx->stx_attributes & STATX_ATTR_MOUNT_ROOT)
		return true;
	return makedev(stx->stx_dev_major, stx->stx_dev_minor) != at->dev;
}

/* After the ENTRY of a directory: all that is in it, or why not. */
static int list_enter(struct list *l, struct rcv_env *v, const char *name, struct buf *out)
{
	const struct level *at = &l->levels[l->depth - 1];
	size_t keep = at->path_bytes;
	int fd, r;

	if (put_mark(out, TP_ITEM_ENTER, 0) < 0 ||
	    (keep && buf_put_u8(&l->path, '/') < 0) ||
	    buf_put(&l->path, name, strlen(name)) < 0)
		return -ENOMEM;
	fd = openat(at->fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	r = fd < 0 ? -errno : list_push(l, v, fd);
	if (r == 0)
		return 0;
	l->path.n = l->path.off + keep;
	r = put_mark(out, TP_ITEM_FAIL, -r);
	return r < 0 ? r : put_mark(out, TP_ITEM_LEAVE, 0);
}

static int list_entry(struct list *l, struct rcv_env *v, struct level *at, struct buf *out)
{
	const char *name = (const char *)at->names.p + at->order[at->next++];
	struct tp_item_entry item = { .kind = TP_ITEM_ENTRY, .name = bytes_str(name) };
	struct statx stx;

	if (statx(at->fd, name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, STATX_BASIC_STATS,
		  &stx) < 0) {
		/* What was removed in the meantime is no fault. */
		if (errno != ENOENT)
			at->error = errno;
		return 0;
	}
	item.flags = is_mount(at, &stx) ? TP_L_MOUNT : 0;
	item.mode = stx.stx_mode;
	item.size = stx.stx_size;
	item.mtime_s = stx.stx_mtime.tv_sec;
	item.mtime_ns = stx.stx_mtime.tv_nsec;
	if (tp_put_item(out, &item) < 0)
		return -ENOMEM;
	if (!l->recurse || !S_ISDIR(stx.stx_mode) || item.flags & TP_L_MOUNT)
		return 0;
	return list_enter(l, v, name, out);
}

static int list_leave(struct list *l, struct level *at, struct buf *out)
{
	int error = at->error;

	level_fini(at);
	l->depth--;
	if (error && put_mark(out, TP_ITEM_FAIL, error) < 0)
		return -ENOMEM;
	if (!l->depth)
		return 0;
	l->path.n = l->path.off + l->levels[l->depth - 1].path_bytes;
	return put_mark(out, TP_ITEM_LEAVE, 0);
}

static int list_items(struct list *l, struct rcv_env *v, struct buf *out, size_t upto)
{
	while (l->depth && buf_len(out) < upto) {
		struct level *at = &l->levels[l->depth - 1];
		int r;

		if (at->next < at->count && at->fd < 0) {
			r = level_reopen(l, at, v->rootfd);
			if (r < 0) {
				at->error = -r;
				at->next = at->count;
			}
		}
		r = at->next < at->count ? list_entry(l, v, at, out) : list_leave(l, at, out);
		if (r < 0)
			return r;
	}
	return 0;
}

static int list_last(struct list *l, struct buf *out, int error)
{
	uint8_t code[4];

	le32_put(code, (uint32_t)error);
	return tp_frame_put(out, TP_LISTING, TP_F_LAST, l->job.slot,
			    bytes_of(code, error ? sizeof(code) : 0));
}

static int list_begin(struct list *l, struct rcv_env *v)
{
	int fd;

	if (rcv_own_path(buf_view(&l->path)))
		return -EPERM;
	/* Not even the time of the last access is to change; that is for owner and root. */
	fd = io_open_dir_below(v->rootfd, buf_view(&l->path), O_RDONLY | O_NOATIME);
	if (fd == -EPERM)
		fd = io_open_dir_below(v->rootfd, buf_view(&l->path), O_RDONLY);
	return fd < 0 ? fd : list_push(l, v, fd);
}

static int list_step(struct rcv_job *job, struct rcv_env *v, struct buf *out, struct err *e)
{
	struct list *l = (struct list *)job;
	size_t at;
	int r;

	if (!l->begun) {
		l->begun = true;
		r = list_begin(l, v);
		if (r < 0)
			return list_last(l, out, -r) < 0 ? err_set(e, -ENOMEM, "out of memory") :
							   0;
	}
	at = tp_frame_begin(out, &r);
	if (r == 0)
		r = list_items(l, v, out, buf_len(out) + LIST_FRAME_BYTES);
	if (r == 0)
		r = tp_frame_end(out, at, TP_LISTING, 0, l->job.slot);
	if (r == 0 && !l->depth)
		r = list_last(l, out, 0);
	if (r < 0)
		return err_sysn(e, r, "list a directory");
	return l->depth > 0;
}

int rcv_list_new(uint16_t slot, struct bytes path, bool recurse, struct rcv_job **ret,
		 struct err *e)
{
	struct list *l = calloc(1, sizeof(*l));

	if (!l || buf_put_bytes(&l->path, path) < 0) {
		free(l);
		return err_set(e, -ENOMEM, "out of memory");
	}
	l->recurse = recurse;
	l->job = (struct rcv_job){ .slot = slot,
				   .bytes = sizeof(*l) + path.n,
				   .step = list_step,
				   .free = list_free };
	*ret = &l->job;
	return 0;
}
