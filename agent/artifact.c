/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/artifact.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>

#include "agent/json.h"
#include "common/buf.h"
#include "common/io.h"
#include "common/text.h"

#define FILE_MAX_BYTES (64u << 20) /* of an earlier run's file that is looked into */
#define ASIDE_MAX 1000             /* files moved aside with one id */

struct agt_artifacts {
	int dirfd;
	char *dir;
	char run_id[AGT_RUN_ID_SIZE];
};

/* ---- ids and times ---- */

static void compact_utc(char out[AGT_RUN_ID_SIZE], time_t t)
{
	struct tm tm = { 0 };

	gmtime_r(&t, &tm);
	strftime(out, AGT_RUN_ID_SIZE, "%Y%m%dT%H%M%SZ", &tm);
}

const char *agt_run_id(char out[AGT_RUN_ID_SIZE])
{
	uint32_t random = 0;
	size_t n;

	compact_utc(out, time(NULL));
	n = strlen(out);
	/* The kernel gives a few bytes always; without them the clock and our id must do. */
	if (getrandom(&random, sizeof(random), 0) != sizeof(random))
		random = (uint32_t)clock_mono_ns() ^ (uint32_t)getpid() << 16;
	snprintf(out + n, AGT_RUN_ID_SIZE - n, "-%08x", random);
	return out;
}

/* It becomes part of a file name. */
static bool is_id(const char *s)
{
	size_t n = strlen(s);

	return n && n < AGT_RUN_ID_SIZE && s[0] != '.' &&
	       strspn(s, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz._-") == n;
}

static void put_stamps(const struct agt_artifacts *a, struct cJSON *content)
{
	time_t now = time(NULL);
	char text[32];

	agt_json_set_str(content, "run_id", a->run_id);
	agt_json_set_str(content, "tool_version", STAGER_VERSION);
	agt_json_set_int(content, "generated_at", now);
	agt_json_set_str(content, "generated_at_utc", text_utc(text, now));
	agt_json_set_str(content, "generated_at_local", text_local(text, now));
}

/* ---- the directory ---- */

/* Make dir and its parents. */
static int make_dirs(const char *dir, struct err *e)
{
	_cleanup_free_ char *path = strdup(dir);

	if (!path)
		return err_sysn(e, -ENOMEM, "make directory %s", dir);
	for (char *p = path + 1; p[-1]; p++) {
		char c = *p;

		if (c && c != '/')
			continue;
		*p = '\0';
		if (mkdir(path, 0755) < 0 && errno != EEXIST)
			return err_sys(e, "make directory %s", path);
		*p = c;
	}
	return 0;
}

int agt_artifacts_open(const char *dir, const char *run_id, struct agt_artifacts **ret,
		       struct err *e)
{
	_cleanup_(agt_artifacts_closep) struct agt_artifacts *a = NULL;
	int r;

	if (!is_id(run_id))
		return err_set(e, -EINVAL, "'%s' cannot be a run id", run_id);
	r = make_dirs(dir, e);
	if (r < 0)
		return err_ctx(e, r, "directory for result files");
	a = calloc(1, sizeof(*a));
	if (!a)
		return err_sysn(e, -ENOMEM, "result files");
	a->dirfd = -1;
	a->dir = strdup(dir);
	if (!a->dir)
		return err_sysn(e, -ENOMEM, "result files");
	snprintf(a->run_id, sizeof(a->run_id), "%s", run_id);
	a->dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (a->dirfd < 0)
		return err_sys(e, "open the directory for result files %s", dir);
	*ret = TAKE_PTR(a);
	return 0;
}

void agt_artifacts_close(struct agt_artifacts *a)
{
	if (!a)
		return;
	if (a->dirfd >= 0)
		close(a->dirfd);
	free(a->dir);
	free(a);
}

const char *agt_artifacts_run_id(const struct agt_artifacts *a)
{
	return a->run_id;
}

/* ---- files ---- */

/* 1 and what the file holds (NULL: it is no JSON), or 0: there is no file. */
static int look(struct agt_artifacts *a, const char *name, struct cJSON **ret, struct err *e)
{
	_cleanup_(buf_fini) struct buf text = BUF_INIT;
	int r = io_read_file(a->dirfd, name, FILE_MAX_BYTES, &text, e);

	*ret = NULL;
	if (r == -ENOENT)
		return 0;
	if (r < 0 && r != -EFBIG)
		return err_ctx(e, r, "result file %s/%s", a->dir, name);
	if (r == 0 && agt_json_parse(buf_view(&text), ret, NULL) == -ENOMEM)
		return err_sysn(e, -ENOMEM, "result file %s/%s", a->dir, name);
	return 1;
}

static bool is_ours(const struct agt_artifacts *a, const struct cJSON *content)
{
	return !strcmp(agt_json_str(content, "run_id", ""), a->run_id);
}

/* The id of the run that wrote it, or the time when that was. */
static int origin(struct agt_artifacts *a, const char *name, const struct cJSON *content,
		  char out[AGT_RUN_ID_SIZE], struct err *e)
{
	const char *id = agt_json_str(content, "run_id", "");
	struct stat st;

	if (is_id(id)) {
		snprintf(out, AGT_RUN_ID_SIZE, "%s", id);
		return 0;
	}
	if (fstatat(a->dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return err_sys(e, "stat result file %s/%s", a->dir, name);
	compact_utc(out, st.st_mtime);
	return 0;
}

/* 0, -EEXIST, or another error: to is never overwritten. */
static int rename_new(int dirfd, const char *from, const char *to)
{
	if (renameat2(dirfd, from, dirfd, to, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno != EINVAL)
		return -errno;
	/* Not every file system can; one agent writes here at a time, so looking first will do. */
	if (faccessat(dirfd, to, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return -EEXIST;
	return renameat(dirfd, from, dirfd, to) < 0 ? -errno : 0;
}

/* NAME.json becomes NAME.ID.json, or NAME.ID.2.json and so on: nothing is ever overwritten. */
static int move_aside(struct agt_artifacts *a, const char *name, const char *id,
		      struct err *e)
{
	const char *dot = strrchr(name, '.');
	int stem = (int)(dot ? (size_t)(dot - name) : strlen(name));

	for (int i = 1; i <= ASIDE_MAX; i++) {
		_cleanup_free_ char *to = NULL;
		char count[16] = "";
		int r;

		if (i > 1)
			snprintf(count, sizeof(count), ".%d", i);
		if (asprintf(&to, "%.*s.%s%s%s", stem, name, id, count, dot ? dot : "") < 0) {
			to = NULL;
			return err_sysn(e, -ENOMEM, "result file %s/%s", a->dir, name);
		}
		r = rename_new(a->dirfd, name, to);
		if (r == 0)
			return 0;
		if (r != -EEXIST)
			return err_sysn(e, r, "move result file %s/%s aside to %s", a->dir, name,
					to);
	}
	return err_set(e, -EEXIST, "move result file %s/%s aside: there are %d with its id", a->dir,
		       name, ASIDE_MAX);
}

int agt_artifact_retire(struct agt_artifacts *a, const char *name, struct err *e)
{
	_cleanup_(agt_json_freep) struct cJSON *content = NULL;
	char id[AGT_RUN_ID_SIZE];
	int r = look(a, name, &content, e);

	if (r <= 0 || is_ours(a, content))
		return r < 0 ? r : 0;
	r = origin(a, name, content, id, e);
	return r < 0 ? r : move_aside(a, name, id, e);
}

static int write_mode(struct agt_artifacts *a, const char *name, struct cJSON *content,
		      mode_t mode, struct err *e)
{
	_cleanup_(buf_fini) struct buf text = BUF_INIT;
	int r;

	put_stamps(a, content);
	r = agt_json_print(content, true, &text, e);
	if (r == 0)
		r = agt_artifact_retire(a, name, e);
	if (r == 0)
		r = io_replace_file(a->dirfd, name, buf_view(&text), mode, e);
	return r < 0 ? err_ctx(e, r, "write result file %s/%s", a->dir, name) : 0;
}

int agt_artifact_write(struct agt_artifacts *a, const char *name, struct cJSON *content,
		       struct err *e)
{
	return write_mode(a, name, content, 0644, e);
}

int agt_artifact_write_closed(struct agt_artifacts *a, const char *name,
			      struct cJSON *content, struct err *e)
{
	return write_mode(a, name, content, 0600, e);
}

int agt_artifact_read(struct agt_artifacts *a, const char *name, struct cJSON **ret,
		      struct err *e)
{
	_cleanup_(agt_json_freep) struct cJSON *content = NULL;
	int r = look(a, name, &content, e);

	if (r < 0)
		return r;
	*ret = is_ours(a, content) ? TAKE_PTR(content) : NULL;
	return 0;
}
