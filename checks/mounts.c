/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mounted file systems that hold this host's data, and the room on them.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checks/rows.h"
#include "common/mountinfo.h"

#define MIB (UINT64_C(1) << 20)

/* SMS needs 5 MB on every file system and 200 MB on the root's; its agent 500 MB. */
#define FREE_MIN_MIB 5
#define FREE_ROOT_MIB 200
#define FREE_AGENT_MIB 500
#define FREE_INODES_MIN 1000

static bool among(const char *const *list, const char *word)
{
	for (; *list; list++)
		if (!strcmp(*list, word))
			return true;
	return false;
}

static bool is_network(const char *type)
{
	static const char *const types[] = {
		"nfs", "nfs4", "cifs", "smb3", "smbfs", "ceph", "fuse.ceph", "glusterfs",
		"fuse.glusterfs", "lustre", "afs", "9p", "fuse.sshfs", "beegfs", NULL,
	};

	return among(types, type);
}

/* Loop devices, RAM disks and CDs hold nothing of the host's that is not elsewhere. */
static bool is_block(const struct mountinfo *info, unsigned major)
{
	static const char *const own[] = { "btrfs", "zfs", "bcachefs", NULL };
	static const char *const images[] = { "squashfs", "iso9660", "erofs", "udf", "cramfs",
					      NULL };

	if (among(images, info->type) || !strncmp(info->source, "/dev/zram", 9))
		return false;
	return among(own, info->type) || (major != 0 && major != 1 && major != 7 && major != 11);
}

static bool is_repeated(const struct chk_facts *f, const struct chk_mount *m)
{
	/* A part of a file system: a bind mount, unless it is a sub-volume. */
	if (strcmp(m->fs_root, "/") != 0 && strcmp(m->type, "btrfs") != 0 &&
	    strcmp(m->type, "zfs") != 0)
		return true;
	for (size_t i = 0; i < f->n_mounts; i++)
		if (f->mounts[i].major == m->major && f->mounts[i].minor == m->minor &&
		    !strcmp(f->mounts[i].source, m->source) &&
		    !strcmp(f->mounts[i].fs_root, m->fs_root))
			return true;
	return false;
}

static void ask_space(const struct chk_gather *g, struct chk_mount *m)
{
	struct chk_space s;

	/* A dead server would block for ever. */
	if (m->network || g->sys->space(g->sys->arg, g->root, m->point + 1, &s) < 0)
		return;
	m->space_told = true;
	m->size = s.size;
	m->free_size = s.avail_size;
	m->used_size = s.size - MIN(s.size, s.free_size);
	m->inodes = s.inodes;
	m->free_inodes = s.free_inodes;
	m->block_size = s.block_size;
}

static void add_mount(const struct chk_gather *g, const struct mountinfo *info)
{
	struct chk_mem *mem = &g->f->mem;
	struct chk_mount m = { 0 }, *slot;
	unsigned major = 0, minor = 0;

	(void)sscanf(info->dev, "%u:%u", &major, &minor);
	m.network = is_network(info->type);
	m.block = !m.network && is_block(info, major);
	/* Of the others only the root is of interest: a container's, a live CD's. */
	if (info->point[0] != '/' || (!m.block && !m.network && strcmp(info->point, "/") != 0))
		return;
	m.major = major;
	m.minor = minor;
	m.point = chk_mem_str(mem, info->point);
	m.source = chk_mem_str(mem, info->source);
	m.type = chk_mem_str(mem, info->type);
	m.options = chk_mem_printf(mem, "%s,%s", info->options, info->super);
	m.fs_root = chk_mem_str(mem, info->root);
	m.repeated = m.block && is_repeated(g->f, &m);
	ask_space(g, &m);
	slot = chk_mem_add(mem, &g->f->mounts, &g->f->n_mounts);
	if (slot)
		*slot = m;
}

/* "/dev/sda1 /boot ext3 rw 0 0" of kernels before 2.6.26; sysfs knows the number. */
static bool parse_old(const struct chk_root *root, char *line, struct mountinfo *ret, char dev[32])
{
	char *save = NULL, path[256];

	ret->source = strtok_r(line, " ", &save);
	ret->point = strtok_r(NULL, " ", &save);
	ret->type = strtok_r(NULL, " ", &save);
	ret->options = strtok_r(NULL, " ", &save);
	if (!ret->options)
		return false;
	mountinfo_unescape(ret->point);
	strcpy(dev, "0:0");
	if (!strncmp(ret->source, "/dev/", 5)) {
		snprintf(path, sizeof(path), "sys/class/block/%s/dev", ret->source + 5);
		if (chk_read_line(root, path, dev, 32) < 0)
			strcpy(dev, "8:0"); /* some block device */
	}
	ret->dev = dev;
	ret->root = (char *)"/";
	ret->super = (char *)"";
	return true;
}

int chk_gather_mounts(const struct chk_gather *g, struct err *e)
{
	_cleanup_(buf_fini) struct buf b = BUF_INIT;
	int r = chk_read(g->root, "proc/self/mountinfo", &b, e);
	bool old = r == -ENOENT;
	char *save = NULL;
	struct err none;

	if (r < 0 && (!old || chk_read(g->root, "proc/mounts", &b, &none) < 0))
		return r;
	for (char *line = strtok_r((char *)b.p, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save)) {
		struct mountinfo info;
		char dev[32];

		if (old ? parse_old(g->root, line, &info, dev) : mountinfo_parse(line, &info))
			add_mount(g, &info);
	}
	for (size_t i = 1; i < g->f->n_mounts; i++) {
		if (!strcmp(g->f->mounts[i].point, "/")) {
			struct chk_mount root = g->f->mounts[i];

			/* The last one on "/" is the one that is seen. */
			memmove(g->f->mounts + 1, g->f->mounts, i * sizeof(root));
			g->f->mounts[0] = root;
		}
	}
	return g->f->n_mounts ? 0 : err_set(e, -EBADMSG, "no file system is mounted");
}

/* --- checks --- */

/* Put the name of a thing behind the others in a message that may be cut. */
static void list_put(char *list, size_t size, const char *name)
{
	size_t n = strlen(list);

	if (n + strlen(name) + 3 < size)
		snprintf(list + n, size - n, "%s%s", n ? ", " : "", name);
	else if (n > 3 && n + 5 < size && strcmp(list + n - 3, "...") != 0)
		strcpy(list + n, ", ...");
}

int chk_file_system(const struct chk_env *env, struct chk_answer *ret, struct err *e)
{
	static const char *const taken[] = { "ext2", "ext3", "ext4", "xfs", "vfat", NULL };
	char bad[400] = "", shared[400] = "", name[600];

	chk_limit(ret, "ext2, ext3, ext4, xfs, vfat");
	if (!chk_told(env->facts, CHK_SUBJECT_MOUNTS))
		return chk_untold(env, CHK_SUBJECT_MOUNTS, e);
	for (size_t i = 0; i < env->facts->n_mounts; i++) {
		const struct chk_mount *m = &env->facts->mounts[i];

		if (!i)
			chk_value(ret, "%s", m->type);
		if (among(taken, m->type) || m->repeated)
			continue;
		snprintf(name, sizeof(name), "%s (%s)", m->point, m->type);
		list_put(m->network ? shared : bad, sizeof(bad), name);
	}
	if (*bad)
		return chk_say(ret, CHK_ERROR, "SMS does not take these file systems: %s", bad);
	if (*shared) {
		chk_code(ret, "", "Mount them on the target as well, or exclude them.");
		return chk_say(ret, CHK_WARN, "file systems of other hosts are not migrated: %s", shared);
	}
	return chk_say(ret, CHK_OK, "every mounted file system is of a kind that SMS takes");
}

int chk_mount_points(const struct chk_env *env, struct chk_answer *ret, struct err *e)
{
	char twice[400] = "";

	if (!chk_told(env->facts, CHK_SUBJECT_MOUNTS))
		return chk_untold(env, CHK_SUBJECT_MOUNTS, e);
	for (size_t i = 0; i < env->facts->n_mounts; i++)
		if (env->facts->mounts[i].repeated)
			list_put(twice, sizeof(twice), env->facts->mounts[i].point);
	if (*twice)
		return chk_say(ret, CHK_WARN, "bind mounts, or mounted a second time: %s", twice);
	return chk_say(ret, CHK_OK, "nothing is mounted twice");
}

static bool writable(const struct chk_mount *m)
{
	return m->block && !m->repeated && m->space_told &&
	       strncmp(m->options, "ro,", 3) != 0;
}

int chk_free_space(const struct chk_env *env, struct chk_answer *ret, struct err *e)
{
	const struct chk_mount *root = env->facts->mounts;
	char full[400] = "";
	uint64_t mib;

	ret->unit = "MiB";
	ret->number = true;
	chk_limit(ret, "%d", FREE_ROOT_MIB);
	if (!chk_told(env->facts, CHK_SUBJECT_MOUNTS))
		return chk_untold(env, CHK_SUBJECT_MOUNTS, e);
	if (!root->space_told || strcmp(root->point, "/") != 0)
		return err_set(e, -ENODATA, "the room on the root file system cannot be told");
	mib = root->free_size / MIB;
	chk_value(ret, "%llu", (unsigned long long)mib);
	for (size_t i = 1; i < env->facts->n_mounts; i++)
		if (writable(&root[i]) && root[i].free_size < FREE_MIN_MIB * MIB)
			list_put(full, sizeof(full), root[i].point);
	if (mib < FREE_ROOT_MIB)
		return chk_say(ret, CHK_ERROR, "%llu MiB are free on /", (unsigned long long)mib);
	if (*full)
		return chk_say(ret, CHK_ERROR, "less than %d MiB are free on %s", FREE_MIN_MIB, full);
	if (mib < FREE_AGENT_MIB) {
		chk_code(ret, "SMS.5101", "Free room on /: the SMS agent wants 500 MiB.");
		return chk_say(ret, CHK_WARN, "%llu MiB are free on /, the agent of SMS wants %d",
			       (unsigned long long)mib, FREE_AGENT_MIB);
	}
	return chk_say(ret, CHK_OK, "%llu MiB are free on /", (unsigned long long)mib);
}

int chk_free_inodes(const struct chk_env *env, struct chk_answer *ret, struct err *e)
{
	uint64_t least = UINT64_MAX;
	const char *where = "/";

	ret->number = true;
	chk_limit(ret, "%d", FREE_INODES_MIN);
	if (!chk_told(env->facts, CHK_SUBJECT_MOUNTS))
		return chk_untold(env, CHK_SUBJECT_MOUNTS, e);
	for (size_t i = 0; i < env->facts->n_mounts; i++) {
		const struct chk_mount *m = &env->facts->mounts[i];

		if (!writable(m) || !m->inodes || m->free_inodes >= least)
			continue;
		least = m->free_inodes;
		where = m->point;
	}
	if (least == UINT64_MAX) {
		ret->number = false;
		return chk_say(ret, CHK_OK, "no file system here limits the number of files");
	}
	chk_value(ret, "%llu", (unsigned long long)least);
	if (!least)
		return chk_say(ret, CHK_ERROR, "no more files can be made on %s", where);
	if (least < FREE_INODES_MIN)
		return chk_say(ret, CHK_WARN, "%llu more files can be made on %s",
			       (unsigned long long)least, where);
	return chk_say(ret, CHK_OK, "%llu more files can be made on %s", (unsigned long long)least,
		       where);
}

int chk_temp_dir(const struct chk_env *env, struct chk_answer *ret, struct err *e)
{
	_cleanup_(buf_fini) struct buf b = BUF_INIT;
	char *save = NULL;
	bool noexec = false, ro = false;
	int r = chk_read(env->root, "proc/self/mountinfo", &b, e);

	if (r < 0)
		return r;
	chk_value(ret, "/tmp");
	if (!chk_is_dir(env->root, "tmp"))
		return chk_say(ret, CHK_WARN, "there is no directory /tmp");
	/* The last mount on "/" or on "/tmp" holds it. */
	for (char *line = strtok_r((char *)b.p, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save)) {
		struct mountinfo info;

		if (!mountinfo_parse(line, &info) ||
		    (strcmp(info.point, "/") != 0 && strcmp(info.point, "/tmp") != 0))
			continue;
		noexec = strstr(info.options, "noexec") != NULL;
		ro = !strncmp(info.options, "ro,", 3) || !strcmp(info.options, "ro");
	}
	if (noexec || ro)
		return chk_say(ret, CHK_WARN, "/tmp is mounted %s", noexec ? "noexec" : "read-only");
	return chk_say(ret, CHK_OK, "/tmp can be written, and programs can run from it");
}

int chk_target_space(const struct chk_env *env, struct chk_answer *ret, struct err *e)
{
	const struct chk_opts *o = env->opts;
	/* An earlier sync's data needs no room again; how much it is only a comparison tells. */
	enum chk_result too_much = o->target_begun ? CHK_WARN : CHK_ERROR;
	const char *but = o->target_begun ? ", unless it is there in part already" : "";
	uint64_t used = 0, files = 0;

	ret->unit = "MiB";
	ret->number = true;
	if (!chk_told(env->facts, CHK_SUBJECT_MOUNTS))
		return chk_untold(env, CHK_SUBJECT_MOUNTS, e);
	for (size_t i = 0; i < env->facts->n_mounts; i++) {
		const struct chk_mount *m = &env->facts->mounts[i];

		if (!m->block || m->repeated)
			continue;
		used += m->used_size;
		files += m->inodes - MIN(m->inodes, m->free_inodes);
	}
	chk_value(ret, "%llu", (unsigned long long)(used / MIB));
	if (o->target_space_why) {
		*e = *o->target_space_why;
		return e->code;
	}
	chk_limit(ret, "%llu", (unsigned long long)(o->target_bytes / MIB));
	if (used > o->target_bytes)
		return chk_say(ret, too_much, "the data (%llu MiB) is more than the target has room for (%llu MiB)%s",
			       (unsigned long long)(used / MIB),
			       (unsigned long long)(o->target_bytes / MIB), but);
	if (o->target_files && files > o->target_files)
		return chk_say(ret, too_much, "there are %llu files and directories here, and inodes for %llu on the target%s",
			       (unsigned long long)files, (unsigned long long)o->target_files, but);
	return chk_say(ret, CHK_OK, "the target has room for the data");
}
