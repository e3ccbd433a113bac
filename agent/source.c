/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/source.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "agent/check.h"
#include "agent/json.h"
#include "agent/options.h"
#include "checks/checks.h"
#include "common/io.h"
#include "common/macro.h"
#include "common/sha256.h"

#define BINDING_NAME "source_id"
#define NAME_CHARS 64
#define LIST_MAX 50 /* disks, volume groups, networks and parts of each: SMS takes no more */

/* What SMS calls the version of its agent; it refuses those that it finds too old. */
#define AGENT_VERSION "25.2.0"

/* ---- the id ---- */

int agt_source_binding(const char *state_dir, char *ret, size_t size, struct err *e)
{
	_cleanup_(buf_fini) struct buf text = BUF_INIT;
	_cleanup_close_ int dir = open(state_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	const char *s;
	int r;

	ret[0] = '\0';
	if (dir < 0)
		return errno == ENOENT ? 0 : err_sys(e, "open state directory %s", state_dir);
	r = io_read_file(dir, BINDING_NAME, AGT_SOURCE_ID_SIZE, &text, e);
	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return r;
	s = buf_cstr(&text);
	snprintf(ret, size, "%.*s", s ? (int)strcspn(s, "\r\n") : 0, s ? s : "");
	return 0;
}

int agt_source_bind(const char *state_dir, const char *id, struct err *e)
{
	_cleanup_close_ int dir = open(state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	char text[AGT_SOURCE_ID_SIZE];

	if (dir < 0)
		return err_sys(e, "open state directory %s", state_dir);
	if (!*id && unlinkat(dir, BINDING_NAME, 0) < 0 && errno != ENOENT)
		return err_sys(e, "remove %s/" BINDING_NAME, state_dir);
	if (!*id)
		return 0;
	snprintf(text, sizeof(text), "%s\n", id);
	return io_replace_file(dir, BINDING_NAME, bytes_str(text), 0600, e);
}

/* ---- looking at this host ---- */

int agt_source_run_checks(const struct agt_options *o, const char *const *only,
			  struct chk_report **ret, struct err *e)
{
	_cleanup_free_ char *supported = NULL;
	int r = agt_check_supported(o, &supported, e);

	if (r < 0)
		return r;
	return chk_run(&(struct chk_opts){ .supported = supported, .only = only }, ret, NULL, e);
}

/* ---- the record ---- */

static void put_parts(struct cJSON *list, const struct chk_disk *d)
{
	for (size_t i = 0; i < d->n_parts && i < LIST_MAX; i++) {
		const struct chk_part *p = &d->parts[i];
		struct cJSON *o = agt_json_add_object(list);

		agt_json_set_str(o, "name", p->name);
		agt_json_set_str(o, "device_use", p->device_use);
		agt_json_set_str(o, "file_system", p->file_system);
		agt_json_set_str(o, "mount_point", p->mount_point);
		agt_json_set_str(o, "uuid", p->uuid);
		agt_json_set_int(o, "index", p->index);
		agt_json_set_int(o, "size", (int64_t)p->size);
		agt_json_set_int(o, "used_size", (int64_t)p->used_size);
		agt_json_set_int(o, "inode_size", p->inode_size);
		agt_json_set_int(o, "inode_nums", (int64_t)p->inode_nums);
	}
}

static void put_disks(struct cJSON *list, const struct chk_facts *f)
{
	for (size_t i = 0; i < f->n_disks && i < LIST_MAX; i++) {
		const struct chk_disk *d = &f->disks[i];
		struct cJSON *o = agt_json_add_object(list);

		agt_json_set_str(o, "name", d->name);
		agt_json_set_str(o, "partition_style", d->style_name);
		agt_json_set_str(o, "device_use", d->device_use);
		agt_json_set_int(o, "size", (int64_t)d->size);
		agt_json_set_int(o, "used_size", (int64_t)d->used_size);
		agt_json_set_bool(o, "os_disk", d->os_disk);
		put_parts(agt_json_set_array(o, "physical_volumes"), d);
	}
}

static void put_volumes(struct cJSON *list, const struct chk_vg *vg)
{
	for (size_t i = 0; i < vg->n_lvs && i < LIST_MAX; i++) {
		const struct chk_lv *v = &vg->lvs[i];
		struct cJSON *o = agt_json_add_object(list);

		agt_json_set_str(o, "name", v->name);
		agt_json_set_str(o, "file_system", v->file_system);
		agt_json_set_str(o, "mount_point", v->mount_point);
		agt_json_set_str(o, "device_use", v->device_use);
		agt_json_set_int(o, "size", (int64_t)v->size);
		agt_json_set_int(o, "used_size", (int64_t)v->used_size);
		agt_json_set_int(o, "free_size", (int64_t)v->free_size);
		agt_json_set_int(o, "block_count", (int64_t)v->block_count);
		agt_json_set_int(o, "block_size", v->block_size);
		agt_json_set_int(o, "inode_size", v->inode_size);
		agt_json_set_int(o, "inode_nums", (int64_t)v->inode_nums);
	}
}

static void put_groups(struct cJSON *list, const struct chk_facts *f)
{
	for (size_t i = 0; i < f->n_vgs && i < LIST_MAX; i++) {
		const struct chk_vg *vg = &f->vgs[i];
		struct cJSON *o = agt_json_add_object(list);

		agt_json_set_str(o, "name", vg->name);
		agt_json_set_str(o, "components", vg->components);
		agt_json_set_int(o, "size", (int64_t)vg->size);
		agt_json_set_int(o, "free_size", (int64_t)vg->free_size);
		put_volumes(agt_json_set_array(o, "logical_volumes"), vg);
	}
}

static void put_btrfs(struct cJSON *list, const struct chk_facts *f)
{
	char number[24];

	for (size_t i = 0; i < f->n_btrfs && i < LIST_MAX; i++) {
		const struct chk_btrfs *b = &f->btrfs[i];
		struct cJSON *o = agt_json_add_object(list), *subs;

		agt_json_set_str(o, "name", b->label);
		agt_json_set_str(o, "label", b->label);
		agt_json_set_str(o, "uuid", b->uuid);
		agt_json_set_str(o, "device", b->device);
		agt_json_set_int(o, "size", (int64_t)b->size);
		agt_json_set_int(o, "nodesize", b->node_size);
		agt_json_set_int(o, "sectorsize", b->sector_size);
		agt_json_set_int(o, "g_vol_used_size", (int64_t)b->used_size);
		agt_json_set_str(o, "data_profile", b->data_profile);
		agt_json_set_str(o, "system_profile", b->system_profile);
		agt_json_set_str(o, "metadata_profile", b->metadata_profile);
		snprintf(number, sizeof(number), "%llu", (unsigned long long)b->global_reserve);
		agt_json_set_str(o, "global_reserve1", number);
		subs = agt_json_set_array(o, "subvolumn"); /* the service's spelling */
		for (size_t k = 0; k < b->n_subvolumes && k < LIST_MAX; k++) {
			const struct chk_subvolume *s = &b->subvolumes[k];
			struct cJSON *v = agt_json_add_object(subs);

			agt_json_set_str(v, "uuid", s->uuid);
			agt_json_set_str(v, "is_snapshot", s->is_snapshot ? "true" : "false");
			snprintf(number, sizeof(number), "%llu", (unsigned long long)s->id);
			agt_json_set_str(v, "subvol_id", number);
			snprintf(number, sizeof(number), "%llu",
				 (unsigned long long)s->parent_id);
			agt_json_set_str(v, "parent_id", number);
			agt_json_set_str(v, "subvol_name", s->name);
			agt_json_set_str(v, "subvol_mount_path", s->mount_point);
		}
	}
}

/* SMS gets a digest of each MAC, never the MAC. */
static void put_nics(struct cJSON *list, const struct chk_facts *f)
{
	char digest[SHA256_HEX_SIZE];
	size_t n = 0;

	for (size_t i = 0; i < f->n_nics && n < LIST_MAX; i++) {
		const struct chk_nic *nic = &f->nics[i];
		struct cJSON *o;

		if (nic->kind == CHK_NIC_SHADOW || !*nic->mac ||
		    (nic->kind == CHK_NIC_VIRTUAL && !*nic->ip))
			continue;
		o = agt_json_add_object(list);
		agt_json_set_str(o, "name", nic->name);
		agt_json_set_str(o, "ip", nic->ip);
		agt_json_set_str(o, "ipv6", nic->ipv6);
		agt_json_set_str(o, "netmask", nic->netmask);
		agt_json_set_str(o, "gateway", nic->gateway);
		agt_json_set_int(o, "mtu", nic->mtu);
		agt_json_set_str(o, "mac", sha256_hex(digest, bytes_str(nic->mac)));
		n++;
	}
}

/* 1-64 of letters, digits, '_', '-', '.'. */
static void source_name(const char *hostname, char out[NAME_CHARS + 1])
{
	snprintf(out, NAME_CHARS + 1, "%.64s", *hostname ? hostname : "linux");
	for (char *p = out; *p; p++)
		if (!strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.", *p))
			*p = '-';
}

/* What SMS wants to know before it migrates block by block, as a text. */
static void put_block_check(struct cJSON *o, const struct chk_facts *f)
{
	_cleanup_(agt_json_freep) struct cJSON *v = agt_json_object();
	_cleanup_(buf_fini) struct buf text = BUF_INIT;
	char simple[32];

	/* "5.10.0" of "5.10.0-28-amd64" */
	snprintf(simple, sizeof(simple), "%.*s", (int)strspn(f->kernel, "0123456789."), f->kernel);
	agt_json_set_str(v, "release_type", f->os.id);
	agt_json_set_str(v, "release_version", f->os.version);
	agt_json_set_str(v, "kernel_simplification", simple);
	agt_json_set_str(v, "architecture", f->arch);
	agt_json_set_str(v, "kernel_version", f->kernel);
	if (agt_json_print(v, false, &text, NULL) == 0 && buf_cstr(&text))
		agt_json_set_str(o, "linux_block_check", buf_cstr(&text));
}

static struct cJSON *body_of(const struct chk_facts *f, const char *id, const char *os_code,
			     const char *domain_id)
{
	struct cJSON *o = agt_json_object();
	const struct chk_nic *nic = f->n_nics ? &f->nics[0] : NULL;
	char name[NAME_CHARS + 1];

	source_name(f->hostname, name);
	if (id && *id)
		agt_json_set_str(o, "id", id);
	agt_json_set_str(o, "name", name);
	agt_json_set_str(o, "hostname", name);
	agt_json_set_str(o, "ip", nic ? nic->ip : "");
	if (nic && !*nic->ip)
		agt_json_set_str(o, "ipv6", nic->ipv6);
	agt_json_set_str(o, "os_type", "LINUX");
	agt_json_set_str(o, "os_version", os_code);
	put_block_check(o, f);
	if (domain_id)
		agt_json_set_str(o, "domain_id", domain_id);
	agt_json_set_str(o, "firmware", f->firmware == CHK_FIRMWARE_UEFI ? "UEFI" : "BIOS");
	agt_json_set_int(o, "cpu_quantity", f->cpu_quantity);
	agt_json_set_int(o, "memory", (int64_t)f->memory_bytes);
	put_disks(agt_json_set_array(o, "disks"), f);
	put_btrfs(agt_json_set_array(o, "btrfs_list"), f);
	put_nics(agt_json_set_array(o, "networks"), f);
	put_groups(agt_json_set_array(o, "volume_groups"), f);
	agt_json_set_bool(o, "has_rsync", *f->rsync);
	agt_json_set_bool(o, "has_tc", *f->tc);
	agt_json_set_bool(o, "paravirtualization", f->paravirtualization);
	agt_json_set_str(o, "raw_devices", f->raw_devices);
	agt_json_set_str(o, "boot_loader", f->boot_loader);
	agt_json_set_str(o, "agent_version", AGENT_VERSION);
	agt_json_set_str(o, "kernel_version", f->kernel);
	agt_json_set_str(o, "platform", f->platform);
	agt_json_set_str(o, "start_type", "MANUAL");
	return o;
}

int agt_source_body(const struct agt_options *o, const char *id, struct cJSON **ret,
		    struct err *e)
{
	struct chk_report *report = NULL;
	struct chk_facts *facts = NULL;
	_cleanup_free_ char *supported = NULL;
	char os_code[128];
	static const char *const only[] = { "OS_VERSION", NULL };
	int r = agt_check_supported(o, &supported, e);

	if (r == 0)
		r = chk_run(&(struct chk_opts){ .supported = supported,
						.only = only },
			    &report, &facts, e);
	if (r == 0)
		r = chk_os_code(supported, facts, os_code, sizeof(os_code), e);
	if (r == 0)
		*ret = body_of(facts, id, os_code, o->control.domain_id);
	chk_report_free(report);
	chk_facts_free(facts);
	return r;
}

int agt_source_digest(const struct cJSON *body, char ret[SHA256_HEX_SIZE], struct err *e)
{
	static const char *const changing[] = { "id", "used_size", "free_size", "g_vol_used_size" };
	_cleanup_(agt_json_freep) struct cJSON *v = agt_json_copy(body);
	_cleanup_(buf_fini) struct buf text = BUF_INIT;
	int r;

	for (size_t i = 0; i < ARRAY_SIZE(changing); i++)
		agt_json_prune(v, changing[i]);
	r = agt_json_print(v, false, &text, e);
	if (r < 0)
		return r;
	sha256_hex(ret, buf_view(&text));
	return 0;
}
