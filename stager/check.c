/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/io.h"
#include "stager/inuse.h"
#include "stager/peer.h"
#include "stager/progress.h"
#include "stager/verify.h"

/*
 * Items of a verification.  They become CHECK frames as other items become ENTRY or META, and
 * their answers come in the same stream; but nothing is sent again, and what differs is
 * written down.  A file whose content counts is read here first, so the receiver can compare
 * by itself while the next one is read.
 */

#define AHEAD_BYTES (4u << 20)

static int no_memory(struct err *e)
{
	return err_set(e, -ENOMEM, "verify: out of memory");
}

static bool by_content(const struct peer *p)
{
	return p->run->verify->method == STG_VERIFY_HASH;
}

/* --- findings --- */

/* Is the source still what the target has acknowledged? */
static enum stg_cause cause_of(const struct stg_item *item, const struct stg_stat *now)
{
	return item->has_old && item->recheck && stg_stat_same(&item->st, now) ?
		       STG_CAUSE_TARGET : STG_CAUSE_SOURCE;
}

static int find(struct peer *p, struct bytes path, uint32_t what, enum stg_cause cause,
		const struct buf *detail, struct err *e)
{
	return stg_catalog_put_finding(p->run->catalog, &(struct stg_finding){
		.path = path,
		.what = what,
		.cause = cause,
		.detail = detail ? buf_view(detail) : bytes_of("", 0),
		.round = p->run->verify->round,
	}, e);
}

static int item_path(struct peer *p, const struct stg_item *item, struct err *e)
{
	return stg_path_join(&p->path, item->path, item->name) < 0 ? no_memory(e) : 0;
}

int peer_check_extra(struct peer *p, struct bytes path, uint32_t mode, enum stg_cause cause,
		     struct err *e)
{
	_cleanup_(buf_fini) struct buf detail = BUF_INIT;
	const struct tp_difference none = { 0 }, d = { .there = true, .meta.mode = mode };

	if (stg_verify_detail(&detail, STG_D_EXTRA, &none, &d) < 0)
		return no_memory(e);
	return find(p, path, STG_D_EXTRA, cause, &detail, e);
}

static int count_checked(struct peer *p, const struct stg_item *item, const struct stg_stat *st,
			 struct err *e)
{
	int r = stg_verify_count(p->run->verify, item->path, item->name);

	p->stats.entries++;
	if (p->run->progress) {
		stg_progress_add_entries(p->run->progress, 1);
		stg_progress_add_bytes(p->run->progress, by_content(p) ? st->size : 0);
	}
	return r < 0 ? no_memory(e) : 0;
}

int peer_check_missing(struct peer *p, const struct stg_item *item, struct err *e)
{
	_cleanup_(buf_fini) struct buf detail = BUF_INIT;
	const struct tp_difference none = { 0 };
	struct tp_difference source = { .there = true };
	int r = item_path(p, item, e);

	stg_stat_to_meta(&item->st, &source.meta);
	if (r == 0 && stg_verify_detail(&detail, TP_D_MISSING, &source, &none) < 0)
		r = no_memory(e);
	if (r == 0)
		r = find(p, buf_view(&p->path), TP_D_MISSING, cause_of(item, &item->st), &detail,
			 e);
	return r < 0 ? r : count_checked(p, item, &item->st, e);
}

/* The link's target again: it was in the frame, which is gone. */
static int read_target(struct peer *p, const struct stg_item *item, const struct stg_stat *st,
		       struct bytes *ret)
{
	_cleanup_close_ int dir = -1;
	char name[TP_NAME_MAX + 1];
	ssize_t n;

	*ret = bytes_of("", 0);
	if (!S_ISLNK(st->mode))
		return 0;
	dir = io_open_dir_below(p->run->source_fd, item->path, O_PATH);
	memcpy(name, item->name.p, MIN(item->name.n, (size_t)TP_NAME_MAX));
	name[MIN(item->name.n, (size_t)TP_NAME_MAX)] = '\0';
	n = dir < 0 ? -1 : readlinkat(dir, name, (char *)p->scratch, TP_TARGET_MAX);
	if (n > 0)
		*ret = bytes_of(p->scratch, (size_t)n);
	return 0;
}

static int note_difference(struct peer *p, const struct flight *f, const struct tp_difference *d,
			   struct err *e)
{
	_cleanup_(buf_fini) struct buf detail = BUF_INIT;
	const struct stg_item *item = f->item;
	enum stg_cause cause = cause_of(item, &f->row.st);
	bool links = item->op == STG_OP_CHECKLINK;
	struct bytes target = bytes_of("", 0);
	struct tp_difference source;
	int r = item_path(p, item, e);

	if (r < 0)
		return r;
	if (item->op == STG_OP_ABSENT)
		return d->what == TP_D_MISSING ? 0 :
			peer_check_extra(p, buf_view(&p->path), d->meta.mode,
					 item->has_old ? STG_CAUSE_SOURCE : STG_CAUSE_TARGET, e);
	/* A store through a mapping need not show in the times; the content tells. */
	if (d->what & TP_D_CONTENT && item->old_hashed &&
	    memcmp(&f->row.hash, &item->old_hash, sizeof(item->old_hash)) != 0)
		cause = STG_CAUSE_SOURCE;
	if (d->what & TP_D_TARGET)
		r = read_target(p, item, &f->row.st, &target);
	source = (struct tp_difference){
		.there = true,
		.links = links ? item->old_nlink : f->row.st.nlink,
		.hole_bytes = f->hole_bytes,
	};
	stg_stat_to_meta(&f->row.st, &source.meta);
	source.meta.target = target;
	if (r == 0 && stg_verify_detail(&detail, d->what, &source, d) < 0)
		r = no_memory(e);
	return r < 0 ? r : find(p, buf_view(&p->path), d->what, cause, &detail, e);
}

int peer_on_differ(struct peer *p, const struct tp_frame *frame, struct err *e)
{
	struct tp_difference d;
	struct flight *f;
	int r = tp_get_difference(frame, &d, e);

	if (r < 0)
		return r;
	if (d.n <= p->acked || d.n > p->sent)
		return err_set(e, -ERR_PROTOCOL, "the receiver tells of what was not asked");
	f = peer_flight_at(p, d.n);
	if (f->kind != FLIGHT_CHECK || f->refused || f->differs)
		return err_set(e, -ERR_PROTOCOL, "the receiver tells of what was not asked");
	f->differs = d.what;
	return note_difference(p, f, &d, e);
}

int peer_check_settled(struct peer *p, const struct flight *f, struct err *e)
{
	struct stg_verification *v = p->run->verify;
	const struct stg_item *item = f->item;
	bool absent = item->op == STG_OP_ABSENT, link = item->op == STG_OP_CHECKLINK;
	const struct stg_stat *st = &f->row.st;
	int r = 0;

	/* One that has changed was asked about twice, and counts once. */
	if (link || f->again)
		return 0;
	if (f->by_hash) {
		atomic_fetch_add_explicit(&v->hashed, 1, memory_order_relaxed);
		atomic_fetch_add_explicit(&v->hashed_bytes, st->size, memory_order_relaxed);
	}
	r = count_checked(p, item, st, e);
	if (r == 0 && v->named && (absent ? f->differs == TP_D_MISSING : !f->differs)) {
		r = item_path(p, item, e);
		if (r == 0)
			r = stg_catalog_fix_finding(p->run->catalog, buf_view(&p->path), v->round, e);
	}
	if (r < 0 || absent || st->nlink < 2 || stg_is_dir(st) ||
	    f->differs & (TP_D_MISSING | TP_D_TYPE))
		return r;
	r = stg_catalog_put_check_link(p->run->catalog, st, item->path, item->name,
				       cause_of(item, st) == STG_CAUSE_TARGET, e);
	if (r == 0 && v->named)
		r = stg_catalog_add_check_links(p->run->catalog, st->dev, st->ino, e);
	return r;
}

/* --- frames --- */

static int knows_checks(const struct peer *p, struct err *e)
{
	if (p->features & TP_FEATURE_CHECK)
		return 0;
	return err_set(e, -ERR_VERSION, "the receiver on the target is too old to verify: use the "
		       "one that came with this program");
}

/* m: name, and target, hash and holes where there are any; attributes are in p->xattrs. */
static int put_check(struct peer *p, struct stg_job *job, struct stg_item *item, uint8_t flags,
		     struct tp_entry *m, const struct stg_stat *st, struct err *e)
{
	struct flight f = { .kind = FLIGHT_CHECK, .job = job, .item = item,
			    .by_hash = (flags & TP_F_HASH) != 0,
			    .again = item->ahead,
			    .hole_bytes = m->hole_bytes };
	struct bytes target = m->meta.target;
	int r;

	f.row.st = *st;
	f.row.hash = m->hash;
	stg_stat_to_meta(st, &m->meta);
	m->meta.target = target;
	m->meta.xattrs = buf_view(&p->xattrs);
	m->links = st->nlink == 1 && !stg_is_dir(st) ? 1 : 0;
	r = tp_put_entry(&p->out, TP_CHECK, flags, 0, m);
	if (r == -E2BIG) {
		peer_item_failed(p, job, item, "verify", r,
				 "its extended attributes are too large to be sent");
		return 0;
	}
	return r < 0 ? no_memory(e) : peer_add_flight(p, &f, e);
}

/*
 * A large file is long at work on both sides, one after the other.  If it still looks as it
 * was acknowledged, its content is known already: the receiver can compare with that while it
 * is read here, to see whether it is what it looks like.
 */
static bool can_go_ahead(const struct stg_item *item, const struct stg_stat *st)
{
	return st->size >= AHEAD_BYTES && item->old_hashed &&
	       cause_of(item, st) == STG_CAUSE_TARGET;
}

static int put_hashed(struct peer *p, struct stg_job *job, struct stg_item *item, int fd,
		      const struct stg_stat *st, const struct tp_hash_value *hash, uint8_t flags,
		      struct err *e)
{
	struct tp_entry m = { .name = item->name, .hash = *hash };
	int r = fd < 0 ? -EBADF : tp_xattrs_read(fd, NULL, &p->xattrs, e);

	/* Blocks beyond its end, or never written, make no hole of a small file. */
	if (r == 0 && flags & TP_F_HASH &&
	    (st->bytes_on_disk < st->size || st->size > STG_HIDDEN_HOLE_BYTES))
		r = tp_hole_bytes(fd, st->size, &m.hole_bytes, &m.holes);
	if (r < 0) {
		peer_source_error(p, job, item, "read attributes of", r);
		return 0;
	}
	r = peer_enter(p, item->path, false, e);
	return r < 0 ? r : put_check(p, job, item, flags, &m, st, e);
}

static int go_ahead(struct peer *p, struct stg_job *job, struct stg_item *item, int fd,
		    const struct stg_stat *st, struct err *e)
{
	int r;

	item->halves = 2; /* the answer, and the end of reading */
	r = put_hashed(p, job, item, fd, st, &item->old_hash, TP_F_HASH, e);
	item->ahead = true;
	return r;
}

static int note_in_use(struct peer *p, const struct stg_item *item, const char *reason,
		       struct err *e)
{
	int r = item_path(p, item, e);

	if (r == 0 && stg_verify_in_use(p->run, buf_view(&p->path), reason) < 0)
		r = no_memory(e);
	return r;
}

int peer_check_item(struct peer *p, struct stg_job *job, struct stg_item *item,
		    const struct stg_stat *st, int dir, const char *name, struct err *e)
{
	struct tp_entry m = { .name = item->name };
	bool in_use = by_content(p) && stg_is_reg(st) &&
		      stg_inuse_has(p->run->inuse, st->dev, st->ino);
	int r = knows_checks(p, e);

	if (r < 0)
		return r;
	/* It may have been begun in a connection that broke. */
	item->ahead = false;
	item->halves = 0;
	if (by_content(p) && stg_is_reg(st) && !in_use) {
		struct stg_stat now;
		int fd = peer_open_source(p, item->path, item->name, &now);

		if (fd < 0) {
			peer_source_error(p, job, item, "open", fd);
			return 0;
		}
		if (can_go_ahead(item, &now))
			r = go_ahead(p, job, item, fd, &now, e);
		if (r == 0)
			return peer_hash_item(p, job, item, fd, &now, e);
		close(fd);
		return r;
	}
	if (in_use)
		r = note_in_use(p, item, "open for writing", e);
	if (r < 0)
		return r;
	/* This thread's working directory is its own, see send_special() in transmit.c. */
	r = fchdir(dir) < 0 ? -errno : tp_xattrs_read(-1, name, &p->xattrs, e);
	if (r == 0 && S_ISLNK(st->mode)) {
		ssize_t n = readlinkat(dir, name, (char *)p->scratch, TP_TARGET_MAX);

		r = n < 0 ? (errno == EINVAL ? -ESTALE : -errno) : 0;
		m.meta.target = bytes_of(p->scratch, (size_t)MAX(n, (ssize_t)0));
	}
	if (r < 0) {
		peer_source_error(p, job, item, "read attributes of", r);
		return 0;
	}
	r = peer_enter(p, item->path, false, e);
	return r < 0 ? r : put_check(p, job, item, in_use ? TP_F_LIVE : 0, &m, st, e);
}

int peer_check_hashed(struct peer *p, struct stg_job *job, struct stg_item *item, int fd,
		      const struct stg_stat *st, const struct tp_hash_value *hash, bool live,
		      struct err *e)
{
	/* It is what the receiver was asked about. */
	if (item->ahead && !live && stg_stat_same(&item->st, st) &&
	    !memcmp(hash, &item->old_hash, sizeof(*hash))) {
		peer_item_done(p, job, item);
		return 0;
	}
	if (live) {
		int r = note_in_use(p, item, "kept changing while it was read", e);

		if (r < 0)
			return r;
	}
	return put_hashed(p, job, item, fd, st, hash, live ? TP_F_LIVE : TP_F_HASH, e);
}

int peer_check_root(struct peer *p, struct stg_job *job, struct stg_item *item, struct err *e)
{
	struct tp_entry m = { .name = bytes_of("", 0) };
	struct stg_stat st;
	struct statx stx;
	int r = knows_checks(p, e);

	if (r < 0)
		return r;
	if (statx(p->run->source_fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &stx) < 0)
		r = -errno;
	else
		r = tp_xattrs_read(p->run->source_fd, NULL, &p->xattrs, e);
	if (r < 0) {
		peer_source_error(p, job, item, "read attributes of", r);
		return 0;
	}
	stg_stat_from_statx(&stx, &st);
	return put_check(p, job, item, TP_F_PATH, &m, &st, e);
}

/* A comparison with something that is not: its answer tells whether there is anything. */
int peer_check_absent(struct peer *p, struct stg_job *job, struct stg_item *item, struct err *e)
{
	const struct stg_stat nothing = { .mode = S_IFSOCK };
	struct tp_entry m = { .name = item->name };
	int r = knows_checks(p, e);

	if (r == 0)
		r = peer_enter(p, item->path, false, e);
	buf_clear(&p->xattrs);
	return r < 0 ? r : put_check(p, job, item, 0, &m, &nothing, e);
}

int peer_check_link(struct peer *p, struct stg_job *job, struct stg_item *item, struct err *e)
{
	struct flight f = { .kind = FLIGHT_CHECK, .job = job, .item = item };
	struct tp_link_msg m = {
		.dir = item->leader_path,
		.from = item->leader,
		.name = item->name,
		.links = item->old_nlink,
	};
	int r = peer_enter(p, item->path, false, e);

	f.row.st = item->st;
	if (r == 0 && tp_put_checklink(&p->out, &m) < 0)
		r = no_memory(e);
	return r < 0 ? r : peer_add_flight(p, &f, e);
}
