/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/receive/env.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "common/text.h"
#include "transport/hash.h"
#include "transport/receive/dirs.h"

int rcv_env_init(struct rcv_env *v, int rootfd, uint32_t abilities, bool super,
		 const struct rcv_hooks *hooks, void *hooks_arg, struct err *e)
{
	int r;

	*v = (struct rcv_env){
		.rootfd = rootfd,
		.abilities = abilities,
		.super = super,
		.hooks = hooks,
		.hooks_arg = hooks_arg,
	};
	v->scratch = malloc(RCV_SCRATCH_BYTES);
	if (!v->scratch)
		return err_set(e, -ENOMEM, "out of memory");
	r = tp_hash_new(&v->hash, e);
	if (r < 0)
		return r;
	r = rcv_dirs_new(rootfd, super, &v->dirs, e);
	if (r < 0)
		return r;
	return rcv_dirs_enter(v, bytes_of(NULL, 0), false) < 0 ?
		       err_set(e, v->fault.code, "%s", v->fault.text) :
		       0;
}

void rcv_env_fini(struct rcv_env *v)
{
	rcv_dir_put(v->cur);
	rcv_dirs_free(v->dirs);
	tp_hash_free(v->hash);
	free(v->scratch);
	buf_fini(&v->xattrs);
	buf_fini(&v->text);
	*v = (struct rcv_env){ .rootfd = -1 };
}

int rcv_fail(struct rcv_env *v, int code, const char *op, const char *fmt, ...)
{
	va_list ap;

	v->fault.code = code;
	snprintf(v->fault.op, sizeof(v->fault.op), "%s", op);
	va_start(ap, fmt);
	vsnprintf(v->fault.text, sizeof(v->fault.text), fmt, ap);
	va_end(ap);
	return code;
}

static void fault_sys(struct rcv_fault *f, int errnum, const char *op, const char *what)
{
	char name[TEXT_NAME_MAX];

	f->code = -errnum;
	snprintf(f->op, sizeof(f->op), "%s", op);
	snprintf(f->text, sizeof(f->text), "%s: %s", text_name(name, bytes_str(what)),
		 strerror(errnum));
}

int rcv_fail_sys(struct rcv_env *v, const char *op, const char *what)
{
	fault_sys(&v->fault, errno, op, what);
	return v->fault.code;
}

void rcv_warn_sys(struct rcv_env *v, const char *op, const char *what)
{
	struct rcv_fault f;

	fault_sys(&f, errno, op, what);
	v->hooks->warn(v->hooks_arg, &f);
}

void rcv_calm(struct rcv_env *v)
{
	v->hooks->calm(v->hooks_arg);
}

void rcv_name_of(struct bytes b, struct rcv_name *ret)
{
	size_t n = MIN(b.n, (size_t)TP_NAME_MAX);

	memcpy(ret->s, b.p, n);
	ret->s[n] = '\0';
}

bool rcv_own_path(struct bytes path)
{
	static const size_t n = sizeof(TP_OWN_DIR) - 1;

	return path.n >= n && !memcmp(path.p, TP_OWN_DIR, n) &&
	       (path.n == n || path.p[n] == '/');
}

bool rcv_own_name(const struct rcv_dir *dir, const char *name)
{
	return dir->path_bytes == 0 && !strcmp(name, TP_OWN_DIR);
}
