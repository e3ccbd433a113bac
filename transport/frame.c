/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/frame.h"

#include <errno.h>
#include <sys/stat.h>

#include "common/macro.h"
#include "transport/blocks.h"
#include "transport/delta.h"

/*
 * What may stand in the head of each frame is a table; the bodies follow one pattern: all
 * fields are read, then looked at, and nothing may be left.  On the way out the results of
 * the appends are or-ed, since each is 0 or -ENOMEM, and a frame that fails is taken off.
 */

#define NS_PER_S       1000000000u
#define META_MIN       33u
#define HELLO_R_MIN    8u
#define HELLO_D_MIN    27u
#define READY_BYTES    50u
#define ITEM_ENTRY_MIN 29u
#define DIFFER_MIN     25u
#define H_FLAGS        (TP_H_CREATE_ROOT | TP_H_MKPATH)
#define R_FLAGS                                                                     \
	(TP_R_EMPTY | TP_R_CHOWN | TP_R_MKNOD | TP_R_TRUSTED | TP_R_FLAGS | TP_R_CREATED)

struct frame_rule {
	const char *name; /* NULL: there is no such type */
	uint8_t flags;    /* that may be set */
	bool slot;        /* else it is 0 */
	uint32_t min;     /* payload bytes */
	uint32_t max;
};

static const struct frame_rule frame_rules[] = {
	[TP_HELLO] = { "HELLO", 0, false, HELLO_R_MIN, HELLO_D_MIN + TP_PATH_MAX },
	[TP_ABORT] = { "ABORT", 0, false, 4, 4 + TP_TEXT_MAX },
	[TP_DIR] = { "DIR", TP_F_CREATE | TP_F_AFRESH, false, 4, 4 + TP_PATH_MAX },
	[TP_ENTRY] = { "ENTRY", 0, false, META_MIN + 3, TP_FRAME_MAX },
	[TP_FILE] = { "FILE", 0, false, META_MIN + 3 + 4, TP_FRAME_MAX },
	[TP_OPEN] = { "OPEN", TP_F_BASIS, true, META_MIN + 3, TP_FRAME_MAX },
	[TP_DATA] = { "DATA", 0, true, 8, 8 + TP_DATA_MAX },
	[TP_HOLE] = { "HOLE", 0, true, 16, 16 },
	[TP_DELTA] = { "DELTA", 0, true, 0, TP_DATA_MAX },
	[TP_CLOSE] = { "CLOSE", 0, true, 8 + TP_HASH_BYTES, 8 + TP_HASH_BYTES },
	[TP_DROP] = { "DROP", 0, true, 0, 0 },
	[TP_META] = { "META", TP_F_HASH, false, META_MIN + 3 + 4, TP_FRAME_MAX },
	[TP_LINK] = { "LINK", 0, false, 10, 8 + TP_PATH_MAX + 2 * TP_NAME_MAX },
	[TP_REMOVE] = { "REMOVE", TP_F_DIRECTORY, false, 3, 2 + TP_NAME_MAX },
	[TP_DIRMETA] = { "DIRMETA", 0, false, META_MIN + 4, TP_FRAME_MAX },
	[TP_LIST] = { "LIST", TP_F_RECURSE, true, 4, 4 + TP_PATH_MAX },
	[TP_SIGREQ] = { "SIGREQ", 0, true, 8 + 3, 8 + 2 + TP_NAME_MAX },
	[TP_SYNC] = { "SYNC", 0, false, 8, 8 },
	[TP_PING] = { "PING", 0, false, 0, 0 },
	[TP_BYE] = { "BYE", 0, false, 0, 0 },
	[TP_CHECK] = { "CHECK", TP_F_HASH | TP_F_LIVE | TP_F_PATH, false, META_MIN + 3 + 4,
		       TP_FRAME_MAX },
	[TP_CHECKLINK] = { "CHECKLINK", 0, false, 14, 12 + TP_PATH_MAX + 2 * TP_NAME_MAX },
	[TP_SEGMENT] = { "SEGMENT", TP_F_CREATE | TP_F_COPIES, true, 24 + 3,
			 24 + 4 + TP_TEMP_MAX + TP_NAME_MAX },
	[TP_COPY] = { "COPY", 0, true, 24, 24 },
	[TP_FINISH] = { "FINISH", TP_F_CREATE, false, META_MIN + 3 + 3, TP_FRAME_MAX },
	[TP_HASHREQ] = { "HASHREQ", 0, true, 16 + 3, 16 + 2 + TP_NAME_MAX },
	[TP_SUMREQ] = { "SUMREQ", 0, true, 28 + 3, 28 + 2 + TP_NAME_MAX },
	[TP_MOVE] = { "MOVE", 0, false, 10, 8 + TP_PATH_MAX + 2 * TP_NAME_MAX },
	[TP_READY] = { "READY", 0, false, READY_BYTES, READY_BYTES },
	[TP_ACK] = { "ACK", 0, false, 8, 8 },
	[TP_REFUSE] = { "REFUSE", 0, false, 14, 14 + 2 * TP_TEXT_MAX },
	[TP_WARN] = { "WARN", 0, false, 14, 14 + 2 * TP_TEXT_MAX },
	[TP_LISTING] = { "LISTING", TP_F_LAST, true, 0, TP_FRAME_MAX },
	[TP_SIG] = { "SIG", TP_F_LAST | TP_F_ERROR, true, 0, TP_DATA_MAX },
	[TP_DURABLE] = { "DURABLE", 0, false, 8, 8 },
	[TP_DIFFER] = { "DIFFER", 0, false, DIFFER_MIN,
			DIFFER_MIN + META_MIN + 16 + 2 * TP_TEXT_MAX },
	[TP_SUMS] = { "SUMS", TP_F_ERROR, true, 4, TP_DATA_MAX },
	[TP_HASHED] = { "HASHED", TP_F_ERROR, true, 4, TP_HASH_BYTES },
};

static const struct frame_rule *rule_of(uint8_t type)
{
	const struct frame_rule *rule;

	if (type >= ARRAY_SIZE(frame_rules))
		return NULL;
	rule = &frame_rules[type];
	return rule->name ? rule : NULL;
}

const char *tp_type_name(uint8_t type)
{
	const struct frame_rule *rule = rule_of(type);

	return rule ? rule->name : "unknown frame";
}

/* --- heads --- */

int tp_frame_peek(const struct buf *in, struct tp_frame *ret, struct err *e)
{
	struct bytes v = buf_view(in);
	const struct frame_rule *rule;
	struct tp_frame f;
	uint32_t n;

	if (v.n < TP_FRAME_HEAD)
		return 0;
	f.type = v.p[0];
	f.flags = v.p[1];
	f.slot = le16_get(v.p + 2);
	n = le32_get(v.p + 4);
	rule = rule_of(f.type);
	if (!rule)
		return err_set(e, -ERR_PROTOCOL, "unknown frame type %u", f.type);
	if (f.flags & ~rule->flags)
		return err_set(e, -ERR_PROTOCOL, "%s with flags %#x", rule->name, f.flags);
	if (f.slot >= (rule->slot ? TP_SLOT_MAX : 1))
		return err_set(e, -ERR_PROTOCOL, "%s with slot %u", rule->name, f.slot);
	if (n < rule->min || n > rule->max)
		return err_set(e, -ERR_PROTOCOL, "%s of %u bytes", rule->name, n);
	if (v.n - TP_FRAME_HEAD < n)
		return 0;
	f.payload = bytes_of(v.p + TP_FRAME_HEAD, n);
	*ret = f;
	return 1;
}

size_t tp_frame_bytes(const struct tp_frame *f)
{
	return TP_FRAME_HEAD + f->payload.n;
}

/* Places in out are counted from its unread bytes, since those move when it grows. */
size_t tp_frame_begin(struct buf *out, int *r)
{
	size_t at = buf_len(out);

	*r = buf_reserve(out, TP_FRAME_HEAD);
	if (*r == 0)
		out->n += TP_FRAME_HEAD;
	return at;
}

static int frame_undo(struct buf *out, size_t at, int r)
{
	out->n = out->off + at;
	return r;
}

int tp_frame_end(struct buf *out, size_t at, uint8_t type, uint8_t flags, uint16_t slot)
{
	size_t n = buf_len(out) - at - TP_FRAME_HEAD;
	uint8_t *head = out->p + out->off + at;

	if (n > TP_FRAME_MAX)
		return frame_undo(out, at, -E2BIG);
	head[0] = type;
	head[1] = flags;
	le16_put(head + 2, slot);
	le32_put(head + 4, (uint32_t)n);
	return 0;
}

/* The end of a frame whose appends gave r. */
static int frame_finish(struct buf *out, size_t at, int r, uint8_t type, uint8_t flags,
			uint16_t slot)
{
	return r < 0 ? frame_undo(out, at, r) : tp_frame_end(out, at, type, flags, slot);
}

int tp_frame_put(struct buf *out, uint8_t type, uint8_t flags, uint16_t slot,
		 struct bytes payload)
{
	size_t at;
	int r;

	if (payload.n > TP_FRAME_MAX)
		return -E2BIG;
	at = tp_frame_begin(out, &r);
	r |= buf_put_bytes(out, payload);
	return frame_finish(out, at, r, type, flags, slot);
}

/* --- parts of payloads --- */

bool tp_name_ok(struct bytes name)
{
	if (!name.n || name.n > TP_NAME_MAX)
		return false;
	if (name.p[0] == '.' && (name.n == 1 || (name.n == 2 && name.p[1] == '.')))
		return false;
	return !memchr(name.p, '/', name.n) && !memchr(name.p, 0, name.n);
}

bool tp_temp_ok(struct bytes name)
{
	static const char prefix[] = TP_TEMP_PREFIX;
	size_t at = sizeof(prefix) - 1;

	if (name.n <= at || name.n > TP_TEMP_MAX || memcmp(name.p, prefix, at) != 0)
		return false;
	for (; at < name.n; at++)
		if (!memchr("0123456789abcdef.", name.p[at], 17))
			return false;
	return true;
}

bool tp_path_ok(struct bytes path)
{
	if (path.n > TP_PATH_MAX)
		return false;
	while (path.n) {
		const uint8_t *slash = memchr(path.p, '/', path.n);
		size_t n = slash ? (size_t)(slash - path.p) : path.n;

		if (!tp_name_ok(bytes_of(path.p, n)))
			return false;
		if (!slash)
			return true;
		path = bytes_of(slash + 1, path.n - n - 1);
		if (!path.n)
			return false;
	}
	return true;
}

static int put_name(struct buf *out, struct bytes name)
{
	return buf_put_le16(out, (uint16_t)name.n) | buf_put_bytes(out, name);
}

static int put_long(struct buf *out, struct bytes v)
{
	return buf_put_le32(out, (uint32_t)v.n) | buf_put_bytes(out, v);
}

static int put_text(struct buf *out, struct bytes text)
{
	text.n = MIN(text.n, (size_t)TP_TEXT_MAX);
	return buf_put_bytes(out, text);
}

static struct bytes get_name(struct reader *r)
{
	struct bytes name = reader_bytes(r, reader_le16(r));

	if (!tp_name_ok(name))
		r->bad = true;
	return name;
}

static struct bytes get_path(struct reader *r)
{
	struct bytes path = reader_bytes(r, reader_le32(r));

	if (!tp_path_ok(path))
		r->bad = true;
	return path;
}

/* A text is what is left of the payload. */
static struct bytes get_text(struct reader *r)
{
	if (r->n > TP_TEXT_MAX)
		r->bad = true;
	return reader_bytes(r, r->n);
}

static void get_hash(struct reader *r, struct tp_hash_value *ret)
{
	struct bytes v = reader_bytes(r, sizeof(ret->b));

	if (!r->bad)
		memcpy(ret->b, v.p, sizeof(ret->b));
}

static int finish(const struct tp_frame *f, const struct reader *r, struct err *e)
{
	if (r->bad)
		return err_set(e, -ERR_PROTOCOL, "%s is malformed", tp_type_name(f->type));
	if (r->n)
		return err_set(e, -ERR_PROTOCOL, "%s has %zu bytes too many",
			       tp_type_name(f->type), r->n);
	return 0;
}

/* --- HELLO, READY, ABORT --- */

static int put_versions(struct buf *out, const struct tp_hello *m)
{
	return buf_put_le16(out, m->version_min) | buf_put_le16(out, m->version_max) |
	       buf_put_le32(out, m->features);
}

static void get_versions(struct reader *r, struct tp_hello *ret)
{
	ret->version_min = reader_le16(r);
	ret->version_max = reader_le16(r);
	ret->features = reader_le32(r);
	if (!ret->version_min || ret->version_min > ret->version_max)
		r->bad = true;
}

int tp_put_hello_r(struct buf *out, const struct tp_hello *m)
{
	int r;
	size_t at = tp_frame_begin(out, &r);

	r |= put_versions(out, m);
	r |= put_text(out, m->receiver);
	return frame_finish(out, at, r, TP_HELLO, 0, 0);
}

int tp_put_hello_d(struct buf *out, const struct tp_hello *m)
{
	int r;
	size_t at = tp_frame_begin(out, &r);

	r |= put_versions(out, m);
	r |= buf_put_le32(out, m->flags);
	r |= buf_put_le16(out, m->session);
	r |= buf_put_le32(out, m->idle_s);
	r |= buf_put_le64(out, m->run);
	r |= put_long(out, m->root);
	return frame_finish(out, at, r, TP_HELLO, 0, 0);
}

int tp_get_hello_r(const struct tp_frame *f, struct tp_hello *ret, struct err *e)
{
	struct reader r = reader_of(f->payload);

	*ret = (struct tp_hello){ 0 };
	get_versions(&r, ret);
	ret->receiver = get_text(&r);
	return finish(f, &r, e);
}

int tp_get_hello_d(const struct tp_frame *f, struct tp_hello *ret, struct err *e)
{
	struct reader r = reader_of(f->payload);

	*ret = (struct tp_hello){ 0 };
	get_versions(&r, ret);
	ret->flags = reader_le32(&r);
	ret->session = reader_le16(&r);
	ret->idle_s = reader_le32(&r);
	ret->run = reader_le64(&r);
	ret->root = reader_bytes(&r, reader_le32(&r));
	if (ret->flags & ~H_FLAGS || !ret->root.n || ret->root.n > TP_PATH_MAX ||
	    ret->root.p[0] != '/' || memchr(ret->root.p, 0, ret->root.n))
		r.bad = true;
	return finish(f, &r, e);
}

int tp_put_ready(struct buf *out, const struct tp_ready *m)
{
	int r;
	size_t at = tp_frame_begin(out, &r);

	r |= buf_put_le16(out, m->version);
	r |= buf_put_le32(out, m->flags);
	r |= buf_put(out, m->boot_id, sizeof(m->boot_id));
	r |= buf_put_le32(out, m->uid);
	r |= buf_put_le64(out, m->free_bytes);
	r |= buf_put_le64(out, m->free_inodes);
	r |= buf_put_le64(out, m->fs_magic);
	return frame_finish(out, at, r, TP_READY, 0, 0);
}

int tp_get_ready(const struct tp_frame *f, struct tp_ready *ret, struct err *e)
{
	struct reader r = reader_of(f->payload);
	struct bytes boot_id;

	*ret = (struct tp_ready){ 0 };
	ret->version = reader_le16(&r);
	ret->flags = reader_le32(&r);
	boot_id = reader_bytes(&r, sizeof(ret->boot_id));
	if (!r.bad)
		memcpy(ret->boot_id, boot_id.p, sizeof(ret->boot_id));
	ret->uid = reader_le32(&r);
	ret->free_bytes = reader_le64(&r);
	ret->free_inodes = reader_le64(&r);
	ret->fs_magic = reader_le64(&r);
	if (ret->flags & ~R_FLAGS)
		r.bad = true;
	return finish(f, &r, e);
}

int tp_put_abort(struct buf *out, uint32_t code, const char *text)
{
	int r;
	size_t at = tp_frame_begin(out, &r);

	r |= buf_put_le32(out, code);
	r |= put_text(out, bytes_str(text));
	return frame_finish(out, at, r, TP_ABORT, 0, 0);
}

int tp_get_abort(const struct tp_frame *f, uint32_t *ret_code, struct bytes *ret_text,
		 struct err *e)
{
	struct reader r = reader_of(f->payload);

	*ret_code = reader_le32(&r);
	*ret_text = get_text(&r);
	return finish(f, &r, e);
}

/* --- D->R --- */

int tp_put_path(struct buf *out, uint8_t type, uint8_t flags, uint16_t slot, struct bytes path)
{
	int r;
	size_t at = tp_frame_begin(out, &r);

	r |= put_long(out, path);
	return frame_finish(out, at, r, type, flags, slot);
}

int tp_get_path(const struct tp_frame *f, struct bytes *ret, struct err *e)
{
	struct reader r = reader_of(f->payload);

	*ret = get_path(&r);
	return finish(f, &r, e);
}

/* What the entry is called by: its path, or a name in the current directory. */
static bool names_path(uint8_t type, uint8_t flags)
{
	return type == TP_DIRMETA || (type == TP_CHECK && (flags & TP_F_PATH));
}

int tp_put_entry(struct buf *out, uint8_t type, uint8_t flags, uint16_t slot,
		 const struct tp_entry *m)
{
	size_t at;
	int r;

	/* An attribute list may be of any size; no frame is built to be thrown away. */
	if (m->meta.xattrs.n > TP_FRAME_MAX || m->meta.target.n > TP_TARGET_MAX ||
	    m->content.n > TP_DATA_MAX)
		return -E2BIG;
	at = tp_frame_begin(out, &r);
	r |= tp_meta_put(out, &m->meta);
	r |= names_path(type, flags) ? put_long(out, m->name) : put_name(out, m->name);
	if (type == TP_FILE)
		r |= put_long(out, m->content);
	if (type == TP_FINISH)
		r |= put_name(out, m->temp);
	if (type == TP_META || type == TP_CHECK)
		r |= buf_put_le32(out, m->links);
	if (type == TP_CHECK && (flags & TP_F_HASH)) {
		r |= buf_put_le64(out, m->hole_bytes);
		r |= buf_put_le32(out, m->holes);
	}
	if ((type == TP_META || type == TP_CHECK) && (flags & TP_F_HASH))
		r |= buf_put(out, m->hash.b, sizeof(m->hash.b));
	return frame_finish(out, at, r, type, flags, slot);
}

/* What a frame of this type may be about. */
static bool entry_fits(uint8_t type, uint8_t flags, const struct tp_entry *m)
{
	uint32_t mode = m->meta.mode;

	switch (type) {
	case TP_ENTRY:
		return !S_ISDIR(mode) && !(S_ISREG(mode) && m->meta.size);
	case TP_FILE:
		return S_ISREG(mode) && m->meta.size == m->content.n;
	case TP_OPEN:
		return S_ISREG(mode);
	case TP_FINISH:
		return S_ISREG(mode) && m->meta.size <= INT64_MAX && tp_temp_ok(m->temp);
	case TP_DIRMETA:
		return S_ISDIR(mode);
	case TP_CHECK:
		return (!(flags & (TP_F_HASH | TP_F_LIVE)) || S_ISREG(mode)) &&
		       (!(flags & TP_F_PATH) || S_ISDIR(mode));
	default:
		return type == TP_META;
	}
}

int tp_get_entry(const struct tp_frame *f, struct tp_entry *ret, struct err *e)
{
	struct reader r = reader_of(f->payload);

	*ret = (struct tp_entry){ 0 };
	tp_meta_get(&r, &ret->meta);
	ret->name = names_path(f->type, f->flags) ? get_path(&r) : get_name(&r);
	if (f->type == TP_FILE)
		ret->content = reader_bytes(&r, reader_le32(&r));
	if (f->type == TP_FINISH)
		ret->temp = get_name(&r);
	if (f->type == TP_META || f->type == TP_CHECK)
		ret->links = reader_le32(&r);
	if (f->type == TP_CHECK && (f->flags & TP_F_HASH)) {
		ret->hole_bytes = reader_le64(&r);
		ret->holes = reader_le32(&r);
	}
	if ((f->type == TP_META || f->type == TP_CHECK) && (f->flags & TP_F_HASH))
		get_hash(&r, &ret->hash);
	if (ret->content.n > TP_DATA_MAX || !entry_fits(f->type, f->flags, ret))
		r.bad = true;
	return finish(f, &r, e);
}

int tp_put_data(struct buf *out, uint16_t slot, uint64_t off, struct bytes data)
{
	size_t at;
	int r;

	if (data.n > TP_DATA_MAX)
		return -E2BIG;
	at = tp_frame_begin(out, &r);
	r |= buf_put_le64(out, off);
	r |= buf_put_bytes(out, data);
	return frame_finish(out, at, r, TP_DATA, 0, slot);
}

int tp_get_data(const struct tp_frame *f, uint64_t *ret_off, struct bytes *ret, struct err *e)
{
	struct reader r = reader_of(f->payload);

	*ret_off = reader_le64(&r);
	*ret = reader_bytes(&r, r.n);
	if (ret->n > TP_DATA_MAX || *ret_off > INT64_MAX - ret->n)
		r.bad = true;
	return finish(f, &r, e);
}

int tp_put_hole(struct buf *out, uint16_t slot, uint64_t off, uint64_t bytes)
{
	int r;
	size_t at = tp_frame_begin(out, &r);

	r |= buf_put_le64(out, off);
	r |= buf_put_le64(out, bytes);
	return frame_finish(out, at, r, TP_HOLE, 0, slot);
}

int tp_get_hole(const struct tp_frame *f, uint64_t *ret_off, uint64_t *ret_bytes,
		struct err *e)
{
	struct reader r = reader_of(f->payload);

	*ret_off = reader_le64(&r);
	*ret_bytes = reader_le64(&r);
	if (*ret_bytes > INT64_MAX || *ret_off > INT64_MAX - *ret_bytes)
		r.bad = true;
	return finish(f, &r, e);
}

int tp_put_close(struct buf *out, uint16_t slot, uint64_t size, const struct tp_hash_value *h)
{
	int r;
	size_t at = tp_frame_begin(out, &r);

	r |= buf_put_le64(out, size);
	r |= buf_put(out, h->b, sizeof(h->b));
	return frame_finish(out, at, r, TP_CLOSE, 0, slot);
}

int tp_get_close(const struct tp_frame *f, uint64_t *ret_size, struct tp_hash_value *ret,
		 struct err *e)
{
	struct reader r = reader_of(f->payload);

	*ret_size = reader_le64(&r);
	get_hash(&r, ret);
	if (*ret_size > INT64_MAX)
		r.bad = true;
	return finish(f, &r, e);
}

static int put_range(struct buf *out, const struct tp_range *m)
{
	return buf_put_le64(out, m->off) | buf_put_le64(out, m->bytes) | put_name(out, m->name);
}

/* Within what a file can have. */
static void get_range(struct reader *r, uint64_t max_bytes, struct tp_range *ret)
{
	ret->off = reader_le64(r);
	ret->bytes = reader_le64(r);
	ret->name = get_name(r);
	if (!ret->bytes || ret->bytes > max_bytes || ret->off > INT64_MAX - ret->bytes)
		r->bad = true;
}

int tp_put_segment(struct buf *out, uint8_t flags, uint16_t slot, const struct tp_range *m)
{
	int r;
	size_t at = tp_frame_begin(out, &r);

	r |= buf_put_le64(out, m->size);
	r |= put_range(out, m);
	if (flags & TP_F_COPIES)
		r |= put_name(out, m->basis);
	return frame_finish(out, at, r, TP_SEGMENT, flags, slot);
}

int tp_get_segment(const struct tp_frame *f, struct tp_range *ret, struct err *e)
{
	struct reader r = reader_of(f->payload);

	*ret = (struct tp_range){ .size = reader_le64(&r) };
	get_range(&r, TP_LEAF_BYTES, ret);
	if (f->flags & TP_F_COPIES)
		ret->basis = get_name(&r);
	if (!tp_temp_ok(ret->name) || ret->size > INT64_MAX || ret->off + ret->bytes > ret->size)
		r.bad = true;
	return finish(f, &r, e);
}

int tp_put_hashreq(struct buf *out, uint16_t slot, const struct tp_range *m)
{
	int r;
	size_t at = tp_frame_begin(out, &r);

	r |= put_range(out, m);
	return frame_finish(out, at, r, TP_HASHREQ, 0, slot);
}

int tp_get_hashreq(const struct tp_frame *f, struct tp_range *ret, struct err *e)
{
	struct reader r = reader_of(f->payload);

	*ret = (struct tp_range){ 0 };
	get_range(&r, TP_LEAF_BYTES, ret);
	return finish(f, &r, e);
}

int tp_put_sumreq(struct buf *out, uint16_t slot, const struct tp_range *m)
{
	int r;
	size_t at = tp_frame_begin(out, &r);

	r |= put_range(out, m);
	r |= buf_put_le64(out, m->size);
	r |= buf_put_le32(out, m->block);
	return frame_finish(out, at, r, TP_SUMREQ, 0, slot);
}

int tp_get_sumreq(const struct tp_frame *f, struct tp_range *ret, struct err *e)
{
	struct reader r = reader_of(f->payload);

	*ret = (struct tp_range){ 0 };
	get_range(&r, INT64_MAX, ret);
	ret->size = reader_le64(&r);
	ret->block = reader_le32(&r);
	/* The answer is one frame. */
	if (!ret->block || ret->size > INT64_MAX || ret->block != tp_sums_block(ret->size) ||
	    ret->off % ret->block || ret->off + ret->bytes > ret->size ||
	    (ret->bytes % ret->block && ret->off + ret->bytes != ret->size) ||
	    ret->bytes / ret->block >= TP_DATA_MAX / TP_SUM_BYTES)
		r.bad = true;
	return finish(f, &r, e);
}

int tp_put_sums(struct buf *out, uint16_t slot, uint32_t error, struct bytes sums)
{
	int r;
	size_t at = tp_frame_begin(out, &r);

	r |= error ? buf_put_le32(out, error) : buf_put_bytes(out, sums);
	return frame_finish(out, at, r, TP_SUMS, error ? TP_F_ERROR : 0, slot);
}

int tp_get_sums(const struct tp_frame *f, uint32_t *ret_error, struct bytes *ret,
		struct err *e)
{
	struct reader r = reader_of(f->payload);

	*ret_error = 0;
	*ret = bytes_of(NULL, 0);
	if (f->flags & TP_F_ERROR) {
		*ret_error = reader_le32(&r);
		r.bad |= !*ret_error;
	} else {
		*ret = reader_bytes(&r, r.n);
		r.bad |= ret->n % TP_SUM_BYTES != 0;
	}
	return finish(f, &r, e);
}

int tp_put_copy(struct buf *out, uint16_t slot, const struct tp_copy *m)
{
	int r;
	size_t at = tp_frame_begin(out, &r);

	r |= buf_put_le64(out, m->off);
	r |= buf_put_le64(out, m->from);
	r |= buf_put_le64(out, m->bytes);
	return frame_finish(out, at, r, TP_COPY, 0, slot);
}

int tp_get_copy(const struct tp_frame *f, struct tp_copy *ret, struct err *e)
{
	struct reader r = reader_of(f->payload);

	ret->off = reader_le64(&r);
	ret->from = reader_le64(&r);
	ret->bytes = reader_le64(&r);
	if (ret->bytes > TP_LEAF_BYTES || ret->off > INT64_MAX - ret->bytes ||
	    ret->from > INT64_MAX - ret->bytes)
		r.bad = true;
	return finish(f, &r, e);
}

int tp_put_hashed(struct buf *out, uint16_t slot, uint32_t error, const struct tp_hash_value *h)
{
	int r;
	size_t at = tp_frame_begin(out, &r);

	r |= error ? buf_put_le32(out, error) : buf_put(out, h->b, sizeof(h->b));
	return frame_finish(out, at, r, TP_HASHED, error ? TP_F_ERROR : 0, slot);
}

int tp_get_hashed(const struct tp_frame *f, uint32_t *ret_error, struct tp_hash_value *ret,
		  struct err *e)
{
	struct reader r = reader_of(f->payload);

	*ret_error = 0;
	if (f->flags & TP_F_ERROR) {
		*ret_error = reader_le32(&r);
		r.bad |= !*ret_error;
	} else {
		get_hash(&r, ret);
	}
	return finish(f, &r, e);
}

static int put_link(struct buf *out, uint8_t type, const struct tp_link_msg *m)
{
	int r;
	size_t at = tp_frame_begin(out, &r);

	r |= put_long(out, m->dir);
	r |= put_name(out, m->from);
	r |= put_name(out, m->name);
	if (type == TP_CHECKLINK)
		r |= buf_put_le32(out, m->links);
	return frame_finish(out, at, r, type, 0, 0);
}

int tp_put_link(struct buf *out, const struct tp_link_msg *m)
{
	return put_link(out, TP_LINK, m);
}

int tp_put_move(struct buf *out, const struct tp_link_msg *m)
{
	return put_link(out, TP_MOVE, m);
}

int tp_put_checklink(struct buf *out, const struct tp_link_msg *m)
{
	return put_link(out, TP_CHECKLINK, m);
}

int tp_get_link(const struct tp_frame *f, struct tp_link_msg *ret, struct err *e)
{
	struct reader r = reader_of(f->payload);

	ret->dir = get_path(&r);
	ret->from = get_name(&r);
	ret->name = get_name(&r);
	ret->links = f->type == TP_CHECKLINK ? reader_le32(&r) : 0;
	return finish(f, &r, e);
}

int tp_put_difference(struct buf *out, const struct tp_difference *m)
{
	struct tp_meta meta = m->meta;
	int r;
	size_t at = tp_frame_begin(out, &r);

	meta.xattrs = bytes_of(NULL, 0);
	meta.target.n = MIN(meta.target.n, (size_t)TP_TEXT_MAX);
	r |= buf_put_le64(out, m->n);
	r |= buf_put_le32(out, m->what);
	r |= buf_put_le32(out, m->links);
	r |= buf_put_le64(out, m->hole_bytes);
	r |= buf_put_u8(out, m->there);
	if (m->there)
		r |= tp_meta_put(out, &meta);
	r |= put_text(out, m->attributes);
	return frame_finish(out, at, r, TP_DIFFER, 0, 0);
}

int tp_get_difference(const struct tp_frame *f, struct tp_difference *ret, struct err *e)
{
	struct reader r = reader_of(f->payload);
	uint8_t there;

	*ret = (struct tp_difference){ .n = reader_le64(&r) };
	ret->what = reader_le32(&r);
	ret->links = reader_le32(&r);
	ret->hole_bytes = reader_le64(&r);
	there = reader_u8(&r);
	ret->there = there == 1;
	if (ret->there)
		tp_meta_get(&r, &ret->meta);
	ret->attributes = get_text(&r);
	if (there > 1 || !ret->what || ret->what & ~TP_D_ALL || ret->meta.xattrs.n ||
	    ret->meta.target.n > TP_TEXT_MAX)
		r.bad = true;
	return finish(f, &r, e);
}

int tp_put_remove(struct buf *out, uint8_t flags, struct bytes name)
{
	int r;
	size_t at = tp_frame_begin(out, &r);

	r |= put_name(out, name);
	return frame_finish(out, at, r, TP_REMOVE, flags, 0);
}

int tp_get_remove(const struct tp_frame *f, struct bytes *ret, struct err *e)
{
	struct reader r = reader_of(f->payload);

	*ret = get_name(&r);
	return finish(f, &r, e);
}

int tp_put_sigreq(struct buf *out, uint16_t slot, const struct tp_sigreq *m)
{
	int r;
	size_t at = tp_frame_begin(out, &r);

	r |= buf_put_le32(out, m->block_bytes);
	r |= buf_put_le32(out, m->strong_bytes);
	r |= put_name(out, m->name);
	return frame_finish(out, at, r, TP_SIGREQ, 0, slot);
}

int tp_get_sigreq(const struct tp_frame *f, struct tp_sigreq *ret, struct err *e)
{
	struct reader r = reader_of(f->payload);

	ret->block_bytes = reader_le32(&r);
	ret->strong_bytes = reader_le32(&r);
	ret->name = get_name(&r);
	if (ret->block_bytes < TP_SIG_BLOCK_MIN || ret->block_bytes > TP_SIG_BLOCK_MAX ||
	    ret->strong_bytes < TP_SIG_STRONG_MIN || ret->strong_bytes > TP_SIG_STRONG_MAX)
		r.bad = true;
	return finish(f, &r, e);
}

int tp_put_number(struct buf *out, uint8_t type, uint64_t n)
{
	int r;
	size_t at = tp_frame_begin(out, &r);

	r |= buf_put_le64(out, n);
	return frame_finish(out, at, r, type, 0, 0);
}

int tp_get_number(const struct tp_frame *f, uint64_t *ret, struct err *e)
{
	struct reader r = reader_of(f->payload);

	*ret = reader_le64(&r);
	return finish(f, &r, e);
}

/* --- R->D --- */

int tp_put_refusal(struct buf *out, uint8_t type, const struct tp_refusal *m)
{
	struct bytes operation = m->operation;
	int r;
	size_t at = tp_frame_begin(out, &r);

	operation.n = MIN(operation.n, (size_t)TP_TEXT_MAX);
	r |= buf_put_le64(out, m->n);
	r |= buf_put_le32(out, m->error);
	r |= put_name(out, operation);
	r |= put_text(out, m->text);
	return frame_finish(out, at, r, type, 0, 0);
}

int tp_get_refusal(const struct tp_frame *f, struct tp_refusal *ret, struct err *e)
{
	struct reader r = reader_of(f->payload);

	ret->n = reader_le64(&r);
	ret->error = reader_le32(&r);
	ret->operation = reader_bytes(&r, reader_le16(&r));
	ret->text = get_text(&r);
	if (ret->operation.n > TP_TEXT_MAX)
		r.bad = true;
	return finish(f, &r, e);
}

int tp_put_item(struct buf *out, const struct tp_item_entry *m)
{
	int r = buf_reserve(out, ITEM_ENTRY_MIN - 1 + m->name.n);

	if (r < 0)
		return r;
	r |= buf_put_u8(out, m->kind);
	if (m->kind == TP_ITEM_FAIL)
		r |= buf_put_le32(out, m->error);
	if (m->kind != TP_ITEM_ENTRY)
		return r;
	r |= buf_put_u8(out, m->flags);
	r |= buf_put_le32(out, m->mode);
	r |= buf_put_le64(out, m->size);
	r |= buf_put_le64(out, (uint64_t)m->mtime_s);
	r |= buf_put_le32(out, m->mtime_ns);
	r |= put_name(out, m->name);
	return r;
}

static void get_item_entry(struct reader *r, struct tp_item_entry *ret)
{
	ret->flags = reader_u8(r);
	ret->mode = reader_le32(r);
	ret->size = reader_le64(r);
	ret->mtime_s = (int64_t)reader_le64(r);
	ret->mtime_ns = reader_le32(r);
	ret->name = get_name(r);
	if (ret->flags & ~TP_L_MOUNT || !tp_mode_ok(ret->mode) || ret->size > INT64_MAX ||
	    ret->mtime_ns >= NS_PER_S)
		r->bad = true;
}

int tp_get_item(struct reader *r, struct tp_item_entry *ret, struct err *e)
{
	if (!r->n && !r->bad)
		return 0;
	*ret = (struct tp_item_entry){ .kind = reader_u8(r) };
	switch (ret->kind) {
	case TP_ITEM_ENTRY:
		get_item_entry(r, ret);
		break;
	case TP_ITEM_ENTER:
	case TP_ITEM_LEAVE:
		break;
	case TP_ITEM_FAIL:
		ret->error = reader_le32(r);
		break;
	default:
		r->bad = true;
	}
	if (r->bad)
		return err_set(e, -ERR_PROTOCOL, "LISTING is malformed");
	return 1;
}
