/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * tests/unit/chk_rows.h - checks run on fixture trees, with a system that answers what the
 * test says.  Include it behind cmocka.h.
 */
#include <errno.h>
#include <net/if.h>
#include <sys/socket.h>

#include "checks/checks.h"
#include "checks/sys.h"
#include "common/macro.h"
#include "tests/unit/chk_fixture.h"

/* A case says what matters for it; the rest is zero. */
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"

struct fake {
	struct fixture *f;
	struct chk_space space;
	const char *full_at; /* this mount point has no room at all */
	const char *no_inodes_at;
	const char *permanent_mac; /* NULL: the driver does not tell */
	const char *address[4][4]; /* interface, address, netmask, NULL or "6" */
	bool is_root, reads_all, privileges_fail;
	const char *output; /* NULL: the program fails */
	int connect;        /* 0, or the error */
	/* What the files hold after the pause of a measurement. */
	const char *later[4][2];
	int64_t now_ns;
};

static inline int fake_space(void *arg, const struct chk_root *root, const char *path,
			     struct chk_space *ret)
{
	struct fake *k = arg;

	(void)root;
	*ret = k->space;
	if (k->full_at && !strcmp(k->full_at + 1, path))
		ret->avail_size = 0;
	if (k->no_inodes_at && !strcmp(k->no_inodes_at + 1, path))
		ret->free_inodes = 0;
	return k->space.size ? 0 : -EACCES;
}

static inline int fake_permanent_mac(void *arg, const char *interface, char *ret)
{
	struct fake *k = arg;

	(void)interface;
	if (!k->permanent_mac)
		return -EOPNOTSUPP;
	strcpy(ret, k->permanent_mac);
	return 0;
}

static inline int fake_addresses(void *arg, chk_address_fn *fn, void *fn_arg)
{
	struct fake *k = arg;

	for (size_t i = 0; i < ARRAY_SIZE(k->address) && k->address[i][0]; i++)
		fn(fn_arg, k->address[i][0], k->address[i][3] ? AF_INET6 : AF_INET,
		   k->address[i][1], k->address[i][2]);
	return 0;
}

static inline int fake_subvolume(void *arg, const struct chk_root *root, const char *path,
				 struct chk_subvolume_info *ret)
{
	(void)arg;
	(void)root;
	(void)path;
	*ret = (struct chk_subvolume_info){ .id = 300, .parent_id = 5, .uuid = "sub-uuid",
					    .is_snapshot = true };
	return 0;
}

static inline int fake_privileges(void *arg, bool *ret_root, bool *ret_reads_all, struct err *e)
{
	struct fake *k = arg;

	*ret_root = k->is_root;
	*ret_reads_all = k->reads_all;
	return k->privileges_fail ? err_set(e, -EPERM, "no capabilities are told") : 0;
}

static inline int fake_output(void *arg, const char *program, const char *argument, char *ret,
			      size_t size, struct err *e)
{
	struct fake *k = arg;

	(void)argument;
	if (!k->output)
		return err_set(e, -EIO, "%s fails", program);
	snprintf(ret, size, "%s", k->output);
	return 0;
}

static inline int fake_connect(void *arg, const char *host, unsigned port, unsigned timeout_ms,
			       unsigned *ret_ms, struct err *e)
{
	struct fake *k = arg;

	*ret_ms = 12;
	return k->connect ? err_set(e, k->connect, "%s port %u: no answer in %u ms", host, port,
				    timeout_ms) : 0;
}

static inline void fake_sleep_ms(void *arg, unsigned ms)
{
	struct fake *k = arg;

	k->now_ns += (int64_t)ms * 1000000;
	for (size_t i = 0; i < ARRAY_SIZE(k->later) && k->later[i][0]; i++)
		fixture_write(k->f, k->later[i][0], k->later[i][1]);
}

static inline int64_t fake_mono_ns(void *arg)
{
	return ((struct fake *)arg)->now_ns;
}

static inline struct chk_sys fake_sys(struct fake *k)
{
	return (struct chk_sys){ k, fake_space, fake_permanent_mac, fake_addresses,
				 fake_subvolume, fake_privileges, fake_output, fake_connect,
				 fake_sleep_ms, fake_mono_ns };
}

#define FILES_MAX 14
#define DIRECTORY "<dir>"

/* A check, a tree, and what is to come of it. */
struct chk_case {
	const char *name;
	enum chk_result want;
	const char *code; /* of the answer */
	const char *text; /* part of its message */
	struct {
		const char *path, *text; /* DIRECTORY, "->TARGET" for a link, or the content */
	} files[FILES_MAX];
	bool live;
	bool untold;
	struct chk_opts opts;
	struct fake fake;
};

static inline void case_plant(struct fixture *f, const struct chk_case *c)
{
	fixture_clear(f);
	for (size_t i = 0; i < FILES_MAX && c->files[i].path; i++) {
		const char *text = c->files[i].text;

		if (!strcmp(text, DIRECTORY))
			fixture_mkdir(f, c->files[i].path);
		else if (!strncmp(text, "->", 2))
			fixture_link(f, c->files[i].path, text + 2);
		else
			fixture_write(f, c->files[i].path, text);
	}
}

/* Run the check on the fixture as it is. */
static inline struct chk_answer case_answer(struct fixture *f, const struct chk_case *c)
{
	struct fake fake = c->fake;
	struct chk_sys sys = fake_sys(&fake);
	struct chk_facts *facts = NULL;
	struct chk_opts opts = c->opts;
	struct chk_answer a;
	struct err e = { 0 };

	fake.f = f;
	f->root.live = c->live;
	if (!opts.supported)
		opts.supported = SUPPORTED_LIST;
	if (chk_facts_collect(&f->root, &sys, &facts, &e) < 0)
		fail_msg("%s", e.text);
	struct chk_env env = { &f->root, facts, &opts, &sys };

	if (!chk_find(c->name))
		fail_msg("there is no check %s", c->name);
	chk_run_row(chk_find(c->name), &env, &a);
	chk_facts_free(facts);
	f->root.live = false;
	return a;
}

static inline void case_judge(const struct chk_case *c, size_t i, const struct chk_answer *a)
{
	if (a->result != c->want || strcmp(a->sms_code, c->code) != 0 ||
	    !strstr(a->message, c->text) || a->told != !c->untold)
		fail_msg("case %zu, %s: %s [%s] %s; wanted %s [%s] ...%s...", i, c->name,
			 chk_result_name(a->result), a->sms_code, a->message,
			 chk_result_name(c->want), c->code, c->text);
	if ((a->result == CHK_OK) != (*a->remedy == '\0'))
		fail_msg("case %zu, %s: the remedy is '%s'", i, c->name, a->remedy);
}

static inline void run_cases(struct fixture *f, const struct chk_case *cases, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct chk_answer a;

		case_plant(f, &cases[i]);
		a = case_answer(f, &cases[i]);
		case_judge(&cases[i], i, &a);
	}
}
