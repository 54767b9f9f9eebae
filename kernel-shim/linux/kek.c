// SPDX-License-Identifier: GPL-2.0
/*
 * Keys that do not come in the clear: references to `logon` keys of the kernel's keyring, and blobs wrapped
 * (AES-256-GCM) under a KEK that is a `logon` or `encrypted` key. The names are looked up in the caller's keyrings.
 */
#include <crypto/aead.h>
#include <keys/encrypted-type.h>
#include <keys/user-type.h>
#include <linux/key.h>
#include <linux/scatterlist.h>

#include "shim.h"

#define DEK_KEK_SIZE 32

struct allowed {
	unsigned int a, b; /* bytes */
};

static enum dek_status take(const void *data, unsigned int size, struct allowed allowed, u8 *out, u8 *length)
{
	if (!data || (size != allowed.a && size != allowed.b))
		return DEK_INVALID_KEY;
	memcpy(out, data, size);
	*length = size;
	return DEK_OK;
}

/* With the key's semaphore. */
static enum dek_status take_payload(struct key *key, struct allowed allowed, u8 *out, u8 *length)
{
#if IS_REACHABLE(CONFIG_ENCRYPTED_KEYS)
	if (key->type == &key_type_encrypted) {
		const struct encrypted_key_payload *encrypted = dereference_key_locked(key);

		return encrypted ? take(encrypted->decrypted_data, encrypted->decrypted_datalen, allowed, out, length) :
				   DEK_INVALID_KEY;
	}
#endif
	{
		const struct user_key_payload *logon = user_key_payload_locked(key);

		return logon ? take(logon->data, logon->datalen, allowed, out, length) : DEK_INVALID_KEY;
	}
}

/* Copies the payload of a key of this type if it has one of the sizes allowed. */
static enum dek_status keyring_payload(struct key_type *type, const char *name, struct allowed allowed, u8 *out,
				       u8 *length)
{
	struct key *key = request_key(type, name, NULL);
	enum dek_status status;

	if (IS_ERR(key))
		return PTR_ERR(key) == -ENOMEM ? DEK_NO_MEMORY : DEK_INVALID_KEY;
	down_read(&key->sem);
	status = key_validate(key) ? DEK_INVALID_KEY : take_payload(key, allowed, out, length);
	up_read(&key->sem);
	key_put(key);
	return status;
}

static enum dek_status find_kek(const char *name, u8 kek[DEK_KEK_SIZE])
{
	const struct allowed allowed = { DEK_KEK_SIZE, DEK_KEK_SIZE };
	enum dek_status status;
	u8 length;

	status = keyring_payload(&key_type_logon, name, allowed, kek, &length);
#if IS_REACHABLE(CONFIG_ENCRYPTED_KEYS)
	if (status == DEK_INVALID_KEY)
		status = keyring_payload(&key_type_encrypted, name, allowed, kek, &length);
#endif
	return status;
}

static enum dek_status from_keyring(const struct dek_command *cmd, u8 *key, u8 *key_length)
{
	char name[DEK_KEY_DATA_SIZE + 1];

	memcpy(name, cmd->blob.key_data, cmd->blob.key_length);
	name[cmd->blob.key_length] = 0;
	return keyring_payload(&key_type_logon, name, (struct allowed){ 32, 64 }, key, key_length);
}

struct unwrap {
	u8 kek[DEK_KEK_SIZE];
	u8 aad[DEK_WRAP_AAD_MAX];
	u8 text[DEK_KEY_DATA_SIZE + DEK_WRAP_TAG_SIZE];
	u8 nonce[DEK_WRAP_NONCE_SIZE];
};

static int decrypt(struct crypto_aead *tfm, struct unwrap *u, size_t aad)
{
	struct aead_request *request;
	struct scatterlist sg[2];
	DECLARE_CRYPTO_WAIT(wait);
	int ret;

	ret = crypto_aead_setkey(tfm, u->kek, sizeof(u->kek));
	if (!ret)
		ret = crypto_aead_setauthsize(tfm, DEK_WRAP_TAG_SIZE);
	if (ret)
		return ret;
	request = aead_request_alloc(tfm, GFP_KERNEL);
	if (!request)
		return -ENOMEM;
	sg_init_table(sg, 2);
	sg_set_buf(&sg[0], u->aad, aad);
	sg_set_buf(&sg[1], u->text, sizeof(u->text));
	aead_request_set_callback(request, CRYPTO_TFM_REQ_MAY_BACKLOG | CRYPTO_TFM_REQ_MAY_SLEEP, crypto_req_done, &wait);
	aead_request_set_ad(request, aad);
	aead_request_set_crypt(request, sg, sg, sizeof(u->text), u->nonce);
	ret = crypto_wait_req(crypto_aead_decrypt(request), &wait);
	aead_request_free(request);
	return ret;
}

static enum dek_status unwrap(const struct dek_command *cmd, struct unwrap *u)
{
	struct crypto_aead *tfm;
	size_t aad;
	int ret;

	memcpy(u->text, cmd->blob.key_data, DEK_KEY_DATA_SIZE);
	memcpy(u->text + DEK_KEY_DATA_SIZE, cmd->blob.tag, DEK_WRAP_TAG_SIZE);
	memcpy(u->nonce, cmd->blob.nonce, DEK_WRAP_NONCE_SIZE);
	aad = dek_wrap_aad(u->aad, cmd->key_id, cmd->key_id_length, cmd->blob.algorithm, cmd->blob.mode,
			   cmd->endpoint_id);
	tfm = crypto_alloc_aead("gcm(aes)", 0, 0);
	if (IS_ERR(tfm))
		return DEK_INVALID_HW_STATE;
	ret = decrypt(tfm, u, aad);
	crypto_free_aead(tfm);
	return !ret ? DEK_OK : ret == -ENOMEM ? DEK_NO_MEMORY : DEK_INVALID_KEY;
}

static enum dek_status from_wrapped(const struct dek_command *cmd, u8 *key, u8 *key_length)
{
	struct unwrap *u = kmalloc(sizeof(*u), GFP_KERNEL);
	enum dek_status status;
	char *name;

	if (!u)
		return DEK_NO_MEMORY;
	name = kstrndup(cmd->blob.kek_name, cmd->blob.kek_name_length, GFP_KERNEL);
	status = name ? find_kek(name, u->kek) : DEK_NO_MEMORY;
	if (status == DEK_OK)
		status = unwrap(cmd, u);
	if (status == DEK_OK) {
		memcpy(key, u->text, DEK_KEY_DATA_SIZE);
		*key_length = cmd->blob.key_length;
	}
	kfree(name);
	kfree_sensitive(u);
	return status;
}

enum dek_status dek_key_resolve(void *shim, const struct dek_command *cmd, u8 key[DEK_KEY_DATA_SIZE], u8 *key_length)
{
	if (!cmd->blob.present)
		return DEK_NOT_CAPABLE;
	if (cmd->blob.type == DEK_BLOB_KEYRING)
		return from_keyring(cmd, key, key_length);
	if (cmd->blob.type == DEK_BLOB_WRAPPED)
		return from_wrapped(cmd, key, key_length);
	return DEK_NOT_CAPABLE;
}
