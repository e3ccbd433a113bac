/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/privilege.h"

#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "common/log.h"
#include "common/macro.h"

#define KEPT_MAX 4

struct kept {
	cap_value_t v[KEPT_MAX];
	int n;
};

/* ---- which ---- */

static int kept_of(const struct strlist *more, struct kept *ret, struct err *e)
{
	static const struct {
		const char *name;
		cap_value_t cap;
	} rows[] = {
		{ "sys_ptrace", CAP_SYS_PTRACE },
		{ "sys_admin", CAP_SYS_ADMIN },
	};
	struct kept k = { .v = { CAP_DAC_READ_SEARCH }, .n = 1 };

	for (size_t i = 0; more && i < more->n; i++) {
		const char *name = more->v[i];
		size_t row = 0;

		name += strncasecmp(name, "cap_", 4) ? 0 : 4;
		while (row < ARRAY_SIZE(rows) && strcasecmp(name, rows[row].name) != 0)
			row++;
		if (row == ARRAY_SIZE(rows))
			return err_set(e, -ERR_USAGE,
				       "daemon.capabilities: '%s' is none that can be kept: "
				       AGT_PRIVILEGE_MORE,
				       more->v[i]);
		if (k.n < KEPT_MAX && k.v[k.n - 1] != rows[row].cap)
			k.v[k.n++] = rows[row].cap;
	}
	*ret = k;
	return 0;
}

static bool is_kept(const struct kept *k, cap_value_t cap)
{
	for (int i = 0; i < k->n; i++)
		if (k->v[i] == cap)
			return true;
	return false;
}

static bool is_set(cap_t caps, cap_value_t cap, cap_flag_t flag)
{
	cap_flag_value_t on = CAP_CLEAR;

	return cap_get_flag(caps, cap, flag, &on) == 0 && on == CAP_SET;
}

/* All of these must be there; the names of those that are not go into the error. */
static int demand(const cap_value_t *v, int n, const char *remedy, struct err *e)
{
	cap_t caps = cap_get_proc();
	char missing[256] = "";

	if (!caps)
		return err_sys(e, "read the capabilities of this process");
	for (int i = 0; i < n; i++) {
		char *name = is_set(caps, v[i], CAP_PERMITTED) ? NULL : cap_to_name(v[i]);
		size_t at = strlen(missing);

		if (!name)
			continue;
		for (char *p = name; *p; p++)
			if (*p >= 'a' && *p <= 'z')
				*p = (char)(*p - 'a' + 'A');
		snprintf(missing + at, sizeof(missing) - at, "%s%s", at ? ", " : "", name);
		cap_free(name);
	}
	cap_free(caps);
	if (!*missing)
		return 0;
	return err_set(e, -ERR_FORBIDDEN, "this process lacks %s: %s", missing, remedy);
}

/* ---- giving up ---- */

static int drop_bounding(const struct kept *k, struct err *e)
{
	cap_t caps = cap_get_proc();
	bool may = caps && is_set(caps, CAP_SETPCAP, CAP_EFFECTIVE);

	cap_free(caps);
	/* Without it there is no way; no_new_privs sees to it that nothing comes of that set. */
	for (cap_value_t cap = 0; may && prctl(PR_CAPBSET_READ, cap) >= 0; cap++)
		if (!is_kept(k, cap) && cap_drop_bound(cap) < 0)
			return err_sys(e, "drop capability %d for good", cap);
	return 0;
}

/* Just so already?  The filter of system calls in the unit does not even let capset(2) through. */
static bool is_settled(const struct kept *k)
{
	cap_t caps = cap_get_proc();
	bool same = caps != NULL;

	for (cap_value_t cap = 0; same && prctl(PR_CAPBSET_READ, cap) >= 0; cap++) {
		bool want = is_kept(k, cap);

		for (cap_flag_t flag = CAP_EFFECTIVE; flag <= CAP_INHERITABLE; flag++)
			same = same && is_set(caps, cap, flag) == want;
		same = same && (cap_get_ambient(cap) == 1) == want;
	}
	cap_free(caps);
	return same;
}

/* Permitted, effective and inheritable, and ambient, so that the stager we start has them, too. */
static int set_all(const struct kept *k, struct err *e)
{
	cap_t caps = cap_init();
	int r = 0;

	if (!caps)
		return err_sys(e, "set capabilities");
	for (cap_flag_t flag = CAP_EFFECTIVE; flag <= CAP_INHERITABLE && r == 0; flag++)
		r = cap_set_flag(caps, flag, k->n, k->v, CAP_SET);
	if (r == 0)
		r = cap_set_proc(caps);
	if (r < 0)
		r = err_sys(e, "give up capabilities");
	cap_free(caps);
	if (r == 0 && cap_reset_ambient() < 0)
		r = err_sys(e, "reset the ambient capabilities");
	for (int i = 0; i < k->n && r == 0; i++)
		if (cap_set_ambient(k->v[i], CAP_SET) < 0)
			r = err_sys(e, "make capability %d ambient", k->v[i]);
	return r;
}

static int keep_only(const struct kept *k, struct err *e)
{
	int r = is_settled(k) ? 0 : set_all(k, e);

	if (r == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		r = err_sys(e, "set no_new_privs");
	return r;
}

/* ---- becoming the user ---- */

/*
 * Not a file with further names: they may be anywhere, and whoever can make links in the
 * directory could have it given anything.  What is looked at is what is given away: it is held.
 */
static int give(const char *path, const char *shown, const struct passwd *pw, struct err *e)
{
	_cleanup_close_ int fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return errno == ENOENT ? 0 : err_sys(e, "look at %s", shown);
	if (st.st_uid != 0 || (!S_ISDIR(st.st_mode) && st.st_nlink > 1))
		return 0;
	if (fchownat(fd, "", pw->pw_uid, pw->pw_gid, AT_EMPTY_PATH) < 0)
		return err_sys(e, "give %s to the user %s", shown, pw->pw_name);
	return 0;
}

/* What root owns there becomes the user's; a file is given by itself. */
static int hand_over(const char *dir, const struct passwd *pw, struct err *e)
{
	char *const paths[] = { (char *)(uintptr_t)dir, NULL };
	FTS *fts = fts_open(paths, FTS_PHYSICAL | FTS_XDEV, NULL);
	FTSENT *entry;
	int r = 0;

	if (!fts)
		return err_sys(e, "look through %s", dir);
	/* fts goes along, from directory to directory, and sees to it that it stays in them. */
	while (r == 0 && (entry = fts_read(fts)))
		if (entry->fts_info != FTS_D)
			r = give(entry->fts_accpath, entry->fts_path, pw, e);
	fts_close(fts);
	return r;
}

static int become(const struct agt_privilege_opts *o, const struct kept *k, struct err *e)
{
	static const cap_value_t needed[] = { CAP_SETUID, CAP_SETGID, CAP_SETPCAP, CAP_CHOWN };
	const struct passwd *pw;
	int r = demand(needed, ARRAY_SIZE(needed),
		       "root needs them to become another user; start it by its systemd unit", e);

	if (r < 0)
		return r;
	errno = 0;
	pw = getpwnam(o->user);
	if (!pw && errno)
		return err_sys(e, "look up the user %s", o->user);
	if (!pw)
		return err_set(e, -ERR_USAGE,
			       "there is no user %s: make it (systemd-sysusers stager.conf, or useradd "
			       "--system %s), or name another one with daemon.user",
			       o->user, o->user);
	if (pw->pw_uid == 0)
		return err_set(e, -ERR_USAGE, "daemon.user: %s is root, and the agent must not be",
			       o->user);
	for (size_t i = 0; o->give && o->give[i] && r == 0; i++)
		r = hand_over(o->give[i], pw, e);
	if (r == 0)
		r = drop_bounding(k, e);
	if (r < 0)
		return r;
	if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0 || initgroups(o->user, pw->pw_gid) < 0 ||
	    setresgid(pw->pw_gid, pw->pw_gid, pw->pw_gid) < 0 ||
	    setresuid(pw->pw_uid, pw->pw_uid, pw->pw_uid) < 0 ||
	    prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0) < 0)
		return err_sys(e, "become the user %s", o->user);
	log_debug("running as the user %s", o->user);
	return 0;
}

int agt_privilege_settle(const struct agt_privilege_opts *o, struct err *e)
{
	struct kept k;
	int r = kept_of(o->more, &k, e);

	if (r == 0)
		r = demand(k.v, k.n,
			   "start the agent as root, or by its systemd unit, which has "
			   "AmbientCapabilities=CAP_DAC_READ_SEARCH",
			   e);
	if (r == 0 && geteuid() == 0)
		r = become(o, &k, e);
	else if (r == 0)
		r = drop_bounding(&k, e);
	if (r == 0)
		r = keep_only(&k, e);
	if (r < 0)
		return r;
	/* If this works, nothing of the above can be relied on. */
	if (setresuid(0, 0, 0) == 0 || geteuid() == 0)
		return err_set(e, -EPERM, "root could be had again after it was given up");
	return 0;
}

int agt_privilege_names(struct buf *out)
{
	cap_t caps = cap_get_proc();
	bool first = true;
	int r = caps ? 0 : -errno;

	for (cap_value_t cap = 0; r == 0 && cap <= CAP_LAST_CAP; cap++) {
		char *name = is_set(caps, cap, CAP_EFFECTIVE) ? cap_to_name(cap) : NULL;

		if (!name)
			continue;
		r = buf_printf(out, "%s%s", first ? "" : " ", name);
		first = false;
		cap_free(name);
	}
	cap_free(caps);
	return r;
}
