//go:build pkcs11

package rootkey

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"

	"github.com/miekg/pkcs11"
)

// hsm is an AES-256 key in a token of a PKCS#11 module. It never leaves the token.
type hsm struct {
	uri tokenURI
	id  string

	mu      sync.Mutex // guards below: one session, used by one call at a time
	module  *pkcs11.Ctx
	session pkcs11.SessionHandle
	key     pkcs11.ObjectHandle
}

const gcmNonce, gcmTag = 12, 16

// tokenURI is what a PKCS#11 URI (RFC 7512) says.
type tokenURI struct{ modulePath, token, object, pinSource string }

func parseURI(uri string) (u tokenURI, err error) {
	path, query, _ := strings.Cut(strings.TrimPrefix(uri, "pkcs11:"), "?")
	set := func(pair string, into map[string]*string) error {
		name, value, _ := strings.Cut(pair, "=")
		at, known := into[name]
		if !known {
			return fmt.Errorf("the root key's PKCS#11 URI has the unknown attribute %s", name)
		}
		*at, err = url.PathUnescape(value)
		return err
	}
	for _, pair := range strings.Split(path, ";") {
		if err := set(pair, map[string]*string{"token": &u.token, "object": &u.object}); err != nil {
			return u, err
		}
	}
	for _, pair := range strings.Split(query, "&") {
		if err := set(pair, map[string]*string{"module-path": &u.modulePath, "pin-source": &u.pinSource}); err != nil {
			return u, err
		}
	}
	u.pinSource = strings.TrimPrefix(u.pinSource, "file:")
	if u.modulePath == "" || u.token == "" || u.object == "" || u.pinSource == "" {
		return u, errors.New("the root key wants pkcs11:token=TOKEN;object=KEY?module-path=MODULE.so&pin-source=file:PATH " +
			"(RFC 7512)")
	}
	return u, nil
}

func openPKCS11(uri string) (Provider, error) {
	u, err := parseURI(uri)
	if err != nil {
		return nil, err
	}
	h := &hsm{uri: u}
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.connect(); err != nil {
		return nil, &TransientError{err}
	}
	if h.id, err = h.identify(); err != nil {
		h.close()
		return nil, fmt.Errorf("the HSM's key %s: %w", u.object, err)
	}
	return h, nil
}

func (h *hsm) connect() (err error) {
	pin, err := ReadPrivate(h.uri.pinSource)
	if err != nil {
		return fmt.Errorf("the HSM's PIN: %w", err)
	}
	defer clear(pin)
	defer func() {
		if err != nil {
			err = fmt.Errorf("the HSM's token %s: %w", h.uri.token, err)
			h.close()
		}
	}()
	if h.module = pkcs11.New(h.uri.modulePath); h.module == nil {
		return fmt.Errorf("the PKCS#11 module %s can't be loaded", h.uri.modulePath)
	}
	if err := h.module.Initialize(); err != nil && !errors.Is(err, pkcs11.Error(pkcs11.CKR_CRYPTOKI_ALREADY_INITIALIZED)) {
		return err
	}
	slot, err := h.slot()
	if err != nil {
		return err
	}
	if h.session, err = h.module.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION); err != nil {
		return err
	}
	if err := h.module.Login(h.session, pkcs11.CKU_USER, strings.TrimSpace(string(pin))); err != nil &&
		!errors.Is(err, pkcs11.Error(pkcs11.CKR_USER_ALREADY_LOGGED_IN)) {
		return err
	}
	h.key, err = h.find()
	return err
}

func (h *hsm) slot() (uint, error) {
	slots, err := h.module.GetSlotList(true)
	if err != nil {
		return 0, err
	}
	for _, slot := range slots {
		if info, err := h.module.GetTokenInfo(slot); err == nil && info.Label == h.uri.token {
			return slot, nil
		}
	}
	return 0, errors.New("there is no token with this label")
}

func (h *hsm) find() (pkcs11.ObjectHandle, error) {
	template := []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_AES),
		pkcs11.NewAttribute(pkcs11.CKA_LABEL, h.uri.object),
	}
	if err := h.module.FindObjectsInit(h.session, template); err != nil {
		return 0, err
	}
	found, _, err := h.module.FindObjects(h.session, 2)
	if err := errors.Join(err, h.module.FindObjectsFinal(h.session)); err != nil {
		return 0, err
	}
	if len(found) != 1 {
		return 0, fmt.Errorf("it holds %d AES keys with the label %s: wanted one", len(found), h.uri.object)
	}
	return found[0], nil
}

func (h *hsm) close() {
	if h.module != nil {
		_ = h.module.CloseSession(h.session)
		h.module = nil
	}
}

// identify encrypts one fixed block: nodes with the same key see the same, and it tells nothing of the key.
func (h *hsm) identify() (string, error) {
	if err := h.module.EncryptInit(h.session, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_ECB, nil)},
		h.key); err != nil {
		return "", err
	}
	block, err := h.module.Encrypt(h.session, []byte("coffer root id 1"))
	return hex.EncodeToString(block), err
}

// with calls do in a session; one that was lost is opened again, once.
func (h *hsm) with(do func() ([]byte, error)) ([]byte, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for again := false; ; again = true {
		var err error
		if h.module == nil {
			err = h.connect()
		}
		if err == nil {
			var out []byte
			if out, err = do(); err == nil {
				return out, nil
			}
		}
		if again || rejected(err) {
			return nil, err
		}
		h.close()
	}
}

// rejected reports whether the token saw the ciphertext and refused it.
func rejected(err error) bool {
	var code pkcs11.Error
	return errors.As(err, &code) && (code == pkcs11.CKR_ENCRYPTED_DATA_INVALID ||
		code == pkcs11.CKR_ENCRYPTED_DATA_LEN_RANGE)
}

func (h *hsm) Wrap(_ context.Context, plaintext, additional []byte) ([]byte, error) {
	return h.with(func() ([]byte, error) {
		nonce := make([]byte, gcmNonce)
		rand.Read(nonce) // never fails (crypto/rand)
		params := pkcs11.NewGCMParams(nonce, additional, gcmTag*8)
		defer params.Free()
		if err := h.module.EncryptInit(h.session, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_GCM, params)},
			h.key); err != nil {
			return nil, err
		}
		sealed, err := h.module.Encrypt(h.session, plaintext)
		if err != nil {
			return nil, err
		}
		if used := params.IV(); len(used) == gcmNonce { // some modules draw their own
			nonce = used
		}
		return append(append([]byte(nil), nonce...), sealed...), nil
	})
}

func (h *hsm) Unwrap(_ context.Context, wrapped, additional []byte) ([]byte, error) {
	if len(wrapped) < gcmNonce+gcmTag {
		return nil, ErrWrongKey
	}
	plaintext, err := h.with(func() ([]byte, error) {
		params := pkcs11.NewGCMParams(wrapped[:gcmNonce], additional, gcmTag*8)
		defer params.Free()
		if err := h.module.DecryptInit(h.session, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_GCM, params)},
			h.key); err != nil {
			return nil, err
		}
		return h.module.Decrypt(h.session, wrapped[gcmNonce:])
	})
	// SoftHSM says no more of a tag that is wrong
	if rejected(err) || errors.Is(err, pkcs11.Error(pkcs11.CKR_GENERAL_ERROR)) {
		return nil, ErrWrongKey
	}
	return plaintext, err
}

func (h *hsm) ID() string { return h.id }
